"""Bills under /api/v1/: each with its totals, and its lines by what they were found to be."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from auditlog.api import shapes
from auditlog.api.filters import before_number
from auditlog.bills import tell as bills
from auditlog.core.amount import minor
from auditlog.core.errors import NotFound
from auditlog.models import Bill
from auditlog.reads.access import WHOLE

PAGE = 50


class Bills(APIView):
    @extend_schema(
        operation_id="bills_list",
        responses=shapes.BILLS,
        parameters=[OpenApiParameter("before", int, description="Bills before this number.")],
    )
    def get(self, request: Request) -> Response:
        request.viewer.must(WHOLE)
        rows, following = before_number(
            request, Bill.objects.filter(tenant=request.viewer.tenant).defer("raw").order_by("-number"), PAGE
        )
        return Response({"results": [_bill(row) for row in rows], "next": following})


class BillLines(APIView):
    @extend_schema(
        operation_id="bill_lines_list",
        responses=shapes.BILL_LINES,
        parameters=[
            OpenApiParameter("state", str, enum=bills.STATES),
            OpenApiParameter("after", int, description="As `next` of the page before says."),
        ],
    )
    def get(self, request: Request, ref: str) -> Response:
        request.viewer.must(WHOLE)
        bill = bills.bill_of(request.viewer.tenant, ref)
        if bill is None:
            raise NotFound(f"no bill {ref[:40]}")
        state, after = request.query_params.get("state", ""), request.query_params.get("after", "0")
        if state and state not in bills.STATES:
            raise ParseError(f"state: expected one of {', '.join(bills.STATES)}, found {state[:40]!r}")
        if not after.isdecimal() or len(after) > 18:
            raise ParseError("after: expected a number")
        rows, following = bills.lines_of(bill, state=state, after=int(after))
        url = request.build_absolute_uri(f"{request.path}?state={state}&after={following}") if following else None
        return Response({"results": rows, "next": url})


def _bill(bill: Bill) -> dict[str, Any]:
    return {
        "id": bill.ref, "format": bill.format, "provider": bill.provider, "file_name": bill.file_name, "sha256": bill.sha256,
        "grade": bill.grade, "imported_at": bill.imported_at, "importer": bill.importer, "leaf_index": bill.leaf_index, "lines": bill.lines,
        "new_lines": bill.new_lines, "changed_lines": bill.changed_lines, "begins": bill.begins, "ends": bill.ends,
        "totals": [
            {"currency": row["currency"], "state": row["state"], "amount_minor": minor(row["amount"]), "lines": row["lines"]}
            for row in bills.totals_of(bill)
        ],
    }  # fmt: skip
