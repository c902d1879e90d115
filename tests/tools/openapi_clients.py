"""Check the OpenAPI document as a platform's engineer does: lint it, and generate clients.

    make openapi-clients

Redocly lints the document. openapi-generator makes a client in Python and one in TypeScript, and
each reads the feed of a real service. Needs npm and Java. Everything is installed and generated in
build/openapi.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Final

from clearinghouse.app import create_app
from clearinghouse.settings import Settings
from nciihash.client import Client
from nciihash.wire import Reason
from support.local import random_item
from support.service_process import ServiceProcess

ROOT: Final = Path(__file__).parents[2]
NODE: Final = Path(__file__).with_name("openapi")  # package.json: Redocly and TypeScript
_PYTHON_CLIENT: Final = """
import sys
from generated_client import ApiClient, Configuration, PlatformsApi

configuration = Configuration(host=sys.argv[1], access_token=sys.argv[2])
with ApiClient(configuration) as client:
    page = PlatformsApi(client).platforms_read_feed(limit=10)
for entry in page.entries:
    print(entry.actual_instance.op, entry.actual_instance.type.value)
"""
_TYPESCRIPT_CLIENT: Final = """
import { Configuration, PlatformsApi } from "./index";

async function main(): Promise<void> {
  const [basePath, accessToken] = process.argv.slice(2);
  const api = new PlatformsApi(new Configuration({ basePath, accessToken }));
  const page = await api.platformsReadFeed({ limit: 10 });
  for (const entry of page.entries) {
    console.log(entry.op, entry.op === "add" ? entry.type : "");
  }
}

main();
"""
_EXPECTED: Final = ["add pdq", "add pdq"]


def run(*arguments: str | Path, cwd: Path) -> str:
    """Run a program and return what it prints; print that and exit if it fails."""
    words = [str(word) for word in arguments]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words[:3])} failed:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def main() -> None:
    """Lint the document, generate the clients, and call the service with each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "openapi")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    document = out / "openapi.json"
    document.write_text(json.dumps(create_app(Settings()).openapi(), indent=1))
    run("npm", "ci", "--no-audit", "--no-fund", "--silent", cwd=NODE)
    node = NODE / "node_modules" / ".bin"
    print(run(node / "redocly", "lint", document, "--format=summary", cwd=NODE).strip())
    environment = out / "venv"
    if not environment.exists():
        venv.create(environment, with_pip=True)
    pip = (environment / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, "openapi-generator-cli", cwd=out)
    generator = environment / "bin" / "openapi-generator-cli"
    for language, folder, options in (
        ("python", "python", ("--package-name", "generated_client")),
        ("typescript-fetch", "typescript", ()),
    ):
        run(generator, "generate", "-g", language, "-i", document, "-o", folder, *options, cwd=out)
    run(*pip, "--editable", out / "python", cwd=out)
    script = out / "typescript" / "call.ts"
    script.write_text(_TYPESCRIPT_CLIENT)
    run(
        *(node / "tsc", "--target", "es2022", "--module", "commonjs", "--strict"),
        *("--skipLibCheck", "--types", "node", "--typeRoots", NODE / "node_modules" / "@types"),
        *("--outDir", out / "javascript", script),
        cwd=NODE,
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        ServiceProcess(Path(folder), forked=False) as service,
    ):
        with Client(service.address) as client:
            facts = {"reason": Reason.PRECAUTION, "adult": True, "depicted": True}
            client.open_case([random_item(), random_item()], **facts)
        access = (service.address, service.platform("feed"))
        for name, command in (
            ("Python", (environment / "bin" / "python", "-c", _PYTHON_CLIENT, *access)),
            ("TypeScript", ("node", out / "javascript" / "call.js", *access)),
        ):
            printed = run(*command, cwd=out).splitlines()
            print(f"The generated {name} client read: {printed}")
            if printed != _EXPECTED:
                sys.exit(f"{_EXPECTED} was expected.")


if __name__ == "__main__":
    main()
