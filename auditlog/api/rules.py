"""Edges of tuning. Each translates, calls one verb or query, answers."""

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from auditlog.api import shapes
from auditlog.core.policy import Policy
from auditlog.database.policies import every_policy, policy_of, settings_of
from auditlog.detection import tune
from auditlog.models import Backtest
from auditlog.reads.access import WHOLE

POLICY = shapes.shape(
    "RulePolicy",
    rule=shapes.text(),
    version=serializers.IntegerField(help_text="0: as it comes"),
    policy=serializers.DictField(
        help_text="enabled, severity, least_minor, settings, exempt, runbook, false_positives, tests"
    ),
    settings=serializers.ListField(child=serializers.DictField(), help_text="What can be set, with its bounds"),
)
POLICIES = shapes.shape(
    "RulePolicies", results=serializers.ListField(child=serializers.DictField()), next=shapes.or_null()
)
BACKTEST = shapes.shape(
    "Backtest",
    id=serializers.IntegerField(),
    rule=shapes.text(),
    days=serializers.IntegerField(),
    state=serializers.ChoiceField(Backtest.State.choices),
    done=serializers.IntegerField(),
    total=serializers.IntegerField(),
    result=serializers.DictField(allow_null=True),
    error=shapes.text(),
)


class PolicyRequest(serializers.Serializer):
    policy = serializers.DictField()
    reason = serializers.CharField(max_length=4_000)


class BacktestRequest(serializers.Serializer):
    rule = serializers.CharField(max_length=60)
    policy = serializers.DictField()
    days = serializers.IntegerField(default=30, min_value=1, max_value=tune.LONGEST)


class PolicyList(APIView):
    @extend_schema(operation_id="policies_list", responses=POLICIES)
    def get(self, request: Request) -> Response:
        request.viewer.must(WHOLE)
        rows = [policy_json(policy) for policy in every_policy(request.viewer.tenant)]
        return Response({"results": rows, "next": None})


class PolicyDetail(APIView):
    @extend_schema(responses=POLICY)
    def get(self, request: Request, rule: str) -> Response:
        request.viewer.must(WHOLE)
        return Response(policy_json(policy_of(request.viewer.tenant, rule)))

    @extend_schema(request=PolicyRequest, responses={201: POLICY})
    def post(self, request: Request, rule: str) -> Response:
        request.viewer.must("configure")
        given = PolicyRequest(data=request.data)
        given.is_valid(raise_exception=True)
        said = given.validated_data
        made = tune.set_by(request.viewer, rule, said["policy"], reason=said["reason"], now=timezone.now())
        return Response(policy_json(made), status=201)


class Backtests(APIView):
    @extend_schema(request=BacktestRequest, responses={202: BACKTEST})
    def post(self, request: Request) -> Response:
        request.viewer.must("triage")
        request.viewer.must(WHOLE)
        given = BacktestRequest(data=request.data)
        given.is_valid(raise_exception=True)
        said = given.validated_data
        row = tune.ask(request.viewer, said["rule"], said["policy"], days=said["days"], now=timezone.now())
        return Response(_backtest_json(row), status=202)


class BacktestDetail(APIView):
    @extend_schema(responses=BACKTEST)
    def get(self, request: Request, pk: int) -> Response:
        request.viewer.must(WHOLE)
        return Response(_backtest_json(tune.backtest_of(request.viewer, pk)))


def policy_json(policy: Policy) -> dict:
    return {
        "rule": policy.rule,
        "version": policy.version,
        "policy": policy.as_json(),
        "settings": [
            {"name": s.name, "default": s.default, "least": s.least, "most": s.most, "unit": s.unit, "words": s.words}
            for s in settings_of(policy.rule)
        ],
    }


def _backtest_json(row: Backtest) -> dict:
    return {name: getattr(row, name) for name in ("id", "rule", "days", "state", "done", "total", "result", "error")}
