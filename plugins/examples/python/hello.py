"""An SMS provider in Python: what `chelseru plugin new` writes in Rust.

It maps one imagined provider, which takes {"key", "to", "text"} and answers {"id"} or {"error", "text"}.
"""

import json
from typing import NoReturn, Optional

from componentize_py_types import Err, Ok
from wit_world.exports.plugin import Description, Setting, SettingKind
from wit_world.exports.sms_text import Message, Receipt
from wit_world.imports import http, settings
from wit_world.imports.sms_types import Accepted, Limits
from wit_world.imports.types import Error_Rejected, Error_Unavailable, Error_UnknownOutcome, Rejection


class Plugin:
    def describe(self) -> Description:
        return Description(
            name="hello-py",
            version="0.1.0",
            summary="Hello: texts, in Python.",
            settings=[
                setting("api_key", SettingKind.TEXT, None, "Key from the panel."),
                setting("base_url", SettingKind.URL, "https://sms.example", "Address of the provider."),
            ],
            hosts=["sms.example"],
        )


class SmsText:
    def get_limits(self) -> Limits:
        return Limits(recipients_max=1, characters_max=0, deduplicates=False)

    def send(self, message: Message) -> list[Receipt]:
        [recipient] = message.recipients
        body = {"key": settings.get("api_key"), "to": recipient.number, "text": message.text}
        answer = ask(f"{settings.get('base_url')}/send", json.dumps(body))
        result = parsed(answer.body)
        if result.get("error"):
            raise Err(Error_Rejected(Rejection(str(result["error"]), str(result.get("text", "")), None)))
        if not result.get("id"):
            unclear(answer.status)
        accepted = Accepted(message_id=str(result["id"]), duplicate=False, cost_rial=None)
        return [Receipt(number=recipient.number, outcome=Ok(accepted))]


def setting(key: str, kind: SettingKind, default: Optional[str], help: str) -> Setting:
    """A setting without a default is required, and only those are secret here."""
    required = default is None
    return Setting(key, kind, required, required, default, help, [])


def ask(url: str, body: str) -> http.Response:
    headers = [http.Header("content-type", "application/json")]
    try:
        return http.send(http.Request(http.Method.POST, url, headers, body.encode(), None))
    except Err as error:
        # Which of the errors it is decides whether the message may have left.
        if isinstance(error.value, (http.Error_Unanswered, http.Error_TooLarge)):
            raise Err(Error_UnknownOutcome("no whole answer")) from None
        raise Err(Error_Unavailable("the request was not sent")) from None


def parsed(body: bytes) -> dict:
    # Python's parser descends once a level and would exhaust the stack of a plugin, which no handler can catch.
    if body.count(b"[") + body.count(b"{") > 100:
        return {}
    try:
        result = json.loads(body)
    except ValueError:
        return {}
    return result if isinstance(result, dict) else {}


def unclear(status: int) -> NoReturn:
    """Whatever is clearly neither a success nor a refusal may have been sent."""
    # A page with a redirect or a client error is not the provider's: whoever sent it did not take the message.
    if 300 <= status < 500 and status != 408:
        raise Err(Error_Unavailable(f"HTTP {status}"))
    raise Err(Error_UnknownOutcome(f"HTTP {status} without an id"))
