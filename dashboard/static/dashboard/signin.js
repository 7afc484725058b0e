// Passkeys: a form of `data-passkey` is filled by the browser's own dialog and sent. Hidden where there is none.
"use strict";

(() => {
  const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  const text = (buffer) =>
    btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  const listed = (credentials) => (credentials || []).map((one) => ({ ...one, id: bytes(one.id) }));

  const asked = (options) => {
    const key = { ...options.publicKey, challenge: bytes(options.publicKey.challenge) };
    if (key.user) key.user = { ...key.user, id: bytes(key.user.id) };
    if (key.allowCredentials) key.allowCredentials = listed(key.allowCredentials);
    if (key.excludeCredentials) key.excludeCredentials = listed(key.excludeCredentials);
    return { publicKey: key };
  };

  const said = (credential) => {
    const response = {};
    for (const name of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"]) {
      if (credential.response[name]) response[name] = text(credential.response[name]);
    }
    if (credential.response.getTransports) response.transports = credential.response.getTransports();
    return {
      id: credential.id, rawId: text(credential.rawId), type: credential.type, response,
      clientExtensionResults: credential.getClientExtensionResults(),
      authenticatorAttachment: credential.authenticatorAttachment,
    };
  };

  const optionsOf = async (form) => {
    if (!form.dataset.from) return JSON.parse(document.getElementById("passkey-options").textContent);
    const answer = await fetch(form.dataset.from, { headers: { "X-Requested-With": "XMLHttpRequest" } });
    if (!answer.ok) throw new Error("The service did not answer.");
    return (await answer.json()).request_options;
  };

  const use = async (form) => {
    const wrong = form.querySelector("[role=alert]:last-of-type");
    wrong.hidden = true;
    try {
      const options = asked(await optionsOf(form));
      const isNew = form.dataset.passkey === "create";
      if (isNew && form.elements.passwordless && form.elements.passwordless.checked) {
        // One that signs in by itself is kept in the authenticator, and asks for a finger or a PIN.
        const asks = { residentKey: "required", requireResidentKey: true, userVerification: "required" };
        options.publicKey.authenticatorSelection = { ...options.publicKey.authenticatorSelection, ...asks };
      }
      const credential = await (isNew ? navigator.credentials.create(options) : navigator.credentials.get(options));
      form.elements[form.dataset.field || "credential"].value = JSON.stringify(said(credential));
      form.submit();
    } catch (error) {
      wrong.textContent = error.name === "NotAllowedError" ? "Nothing was chosen, or it took too long." : error.message;
      wrong.hidden = false;
    }
  };

  const isAddress = /^(\d+\.){3}\d+$|^\[/.test(location.hostname);
  for (const form of document.querySelectorAll("form[data-passkey]")) {
    if (!window.PublicKeyCredential || isAddress) {
      const notice = document.querySelector(".needs-name");
      if (notice) notice.hidden = false;
      continue;
    }
    form.hidden = false;
    form.querySelector("button[type=button]").addEventListener("click", () => use(form));
  }
})();
