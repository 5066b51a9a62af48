"""`autotrace approver`: create the key with which a person signs answers."""

from __future__ import annotations

import json
import shlex

from autotrace.cli.command_options import JsonOption, command_of, make_app
from autotrace.cli.terminal import Screen, print_json
from autotrace.errors import SigningKeyError
from autotrace.semconv import ENV_PREFIX
from autotrace.settings import load_settings

app = make_app("Make the key with which you sign answers to approvals.", no_args_is_help=True)
_command = command_of(app)


@_command
def init(as_json: JsonOption = False) -> None:
    """Create your key, and print its public half for the gates."""
    from autotrace.decisions.receipts import ReceiptSigner

    path = load_settings().approver_key_path.absolute()
    if not ReceiptSigner.create(path):
        public_key = ReceiptSigner.load(path).public_key
        msg = f"{path} holds a key already, which was not changed; its public key is {public_key}"
        raise SigningKeyError(msg)
    public_key = ReceiptSigner.load(path).public_key
    if as_json:
        print_json({"file": str(path), "public_key": public_key})
        return
    screen = Screen()
    screen.line("your key, which no agent may read, is in")
    screen.whole(str(path))
    screen.line("for the environment of the programs whose gates accept it:")
    screen.whole(f"export {ENV_PREFIX}APPROVER_KEYS={shlex.quote(json.dumps([public_key]))}")
    screen.line("or in the code of one gate:")
    screen.whole(f"ApprovalRequest(approver_keys={json.dumps([public_key])})")
    screen.line("`autotrace decisions approve` and `reject` sign with it from now on")
