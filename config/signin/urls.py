"""allauth's views that we use, under its own names; what ours replace leads to ours."""

from allauth.account import views as account
from allauth.socialaccount import views as social
from django.urls import include, path, re_path
from django.views.generic import RedirectView

from config.signin import oidc
from dashboard.pages.account import door, mine, proof

urlpatterns = [
    path("login/", RedirectView.as_view(pattern_name="dashboard:login", query_string=True), name="account_login"),
    path("logout/", door.Logout.as_view(), name="account_logout"),
    path("inactive/", account.account_inactive, name="account_inactive"),
    path("confirm/", proof.confirm, name="account_reauthenticate"),
    path("password/", mine.ChangePassword.as_view(), name="account_change_password"),
    path("password/set/", account.password_set, name="account_set_password"),
    path("password/forgot/", mine.ForgotPassword.as_view(), name="account_reset_password"),
    path("password/forgot/sent/", account.password_reset_done, name="account_reset_password_done"),
    re_path(
        r"^password/forgot/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>.+)/$",
        account.password_reset_from_key,
        name="account_reset_password_from_key",
    ),
    path("password/done/", account.password_reset_from_key_done, name="account_reset_password_from_key_done"),
    path("2fa/", include("allauth.mfa.urls")),
    path("identities/", social.connections, name="socialaccount_connections"),
    path("identities/cancelled/", social.login_cancelled, name="socialaccount_login_cancelled"),
    path("identities/failed/", social.login_error, name="socialaccount_login_error"),
    path("identities/new/", social.signup, name="socialaccount_signup"),
    path("oidc/<str:provider_id>/login/", oidc.login, name="openid_connect_login"),
    path("oidc/<str:provider_id>/login/callback/", oidc.callback, name="openid_connect_callback"),
]
