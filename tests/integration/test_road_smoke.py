from auditlog.models import Charge, Event, Grant, Leaf


def test_smoke(world):
    world.source("conductor", "https://conductor.example")
    ada = world.human("ada", issuer="https://id.acme.example")
    shopper = world.agent("shopper", issuer="https://conductor.example")
    grant = world.grant(ada, shopper, actions=["domain.register"], resources=["acme.io"])
    bought = world.registers("acme-corp.io", grant=grant, price_minor=900)
    world.send(grant, bought, grant)
    world.project()
    assert Leaf.objects.filter(tenant=world.row).count() == 5
    print(list(Event.objects.filter(tenant=world.row).values()))
    print(list(Grant.objects.filter(tenant=world.row).values()))
    print(list(Charge.objects.filter(tenant=world.row).values()))
