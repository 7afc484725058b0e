"""Pictures: functions from plain rows to SVG and charts."""
