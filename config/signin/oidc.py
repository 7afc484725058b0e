"""OpenID Connect, held to what allauth leaves to trust in TLS: the metadata is the issuer's own, the ID token is there,
signed by a key of that issuer with an algorithm we allow, and about the same subject as everything else.
"""

from allauth.socialaccount.helpers import render_authentication_error
from allauth.socialaccount.internal import jwtkit
from allauth.socialaccount.models import SocialApp
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView, OAuth2LoginView
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from django.http import Http404, HttpRequest, HttpResponse
from jwt import PyJWTError, get_unverified_header
from requests import RequestException

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
SENT_ON = ("authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri")


class Adapter(OpenIDConnectOAuth2Adapter):
    @property
    def openid_config(self) -> dict:
        found = super().openid_config
        wanted = self.get_provider().app.settings["server_url"].rstrip("/")
        if not isinstance(found, dict) or str(found.get("issuer", "")).rstrip("/") != wanted:
            raise OAuth2Error("the metadata names another issuer")
        if any(not str(found.get(name, "https://")).startswith("https://") for name in SENT_ON):
            raise OAuth2Error("the metadata leads to an address without TLS")
        return found

    def complete_login(self, request: HttpRequest, app: SocialApp, token, **kwargs):
        login = super().complete_login(request, app, token, **kwargs)
        data = login.account.extra_data
        said = data.get("id_token")
        if not said:
            raise OAuth2Error("there is no ID token")
        if "userinfo" in data and data["userinfo"].get("sub") != said.get("sub"):
            raise OAuth2Error("the user info is about somebody else")  # OpenID Connect Core 1.0, section 5.3.2
        return login

    def _decode_id_token(self, app: SocialApp, id_token: str) -> dict:
        try:
            algorithm = get_unverified_header(id_token).get("alg")
        except PyJWTError as error:
            raise OAuth2Error("the ID token cannot be read") from error
        if algorithm not in ALGORITHMS:
            raise OAuth2Error("the ID token is signed by an algorithm that is not allowed")
        try:
            return jwtkit.verify_and_decode(
                credential=id_token, keys_url=self.openid_config["jwks_uri"], issuer=self.openid_config["issuer"],
                audience=app.client_id, lookup_kid=jwtkit.lookup_kid_jwk,
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise OAuth2Error("the ID token does not fit its keys") from error


def login(request: HttpRequest, provider_id: str) -> HttpResponse:
    return _seen(OAuth2LoginView, request, provider_id)


def callback(request: HttpRequest, provider_id: str) -> HttpResponse:
    return _seen(OAuth2CallbackView, request, provider_id)


def _seen(view: type, request: HttpRequest, provider_id: str) -> HttpResponse:
    adapter = Adapter(request, provider_id)
    try:
        return view.adapter_view(adapter)(request)
    except SocialApp.DoesNotExist:
        raise Http404(f"no provider {provider_id[:40]}") from None
    except (OAuth2Error, RequestException, KeyError, TypeError, ValueError) as error:  # it does not answer as it should
        return render_authentication_error(request, adapter.get_provider(), exception=error)
