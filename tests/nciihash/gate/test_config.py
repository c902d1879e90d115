"""The configuration: what it may hold, and what is said about the rest."""

import re
import tomllib
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from nciihash.errors import ConfigInvalid
from nciihash.gate.config import (
    Address,
    DialectConfig,
    FloodConfig,
    GateConfig,
    UploadLimits,
    load,
    render_default,
)
from nciihash.gate.config import keys as config_keys
from nciihash.gate.config.readers import address, bank_names, hosts, number, shown_size, size
from nciihash.gate.outcome import Dialect
from nciihash.gate.policy import Action, Fail, MediaPolicy, Policy
from nciihash.signals import Level

KEY = "npk_0123456789abcdef"
ENVIRON = {"NCIIHASH_KEY": KEY}
TOP = 'server = "https://clearinghouse.example"\ndata = "data"\n'
HTTP = '[http]\nlisten = "127.0.0.1:8480"\n'


@pytest.fixture
def read(tmp_path):
    def read(text: str, environ=ENVIRON) -> GateConfig:
        path = tmp_path / "gate.toml"
        path.write_text(text)
        return load(path, environ)

    return read


@pytest.fixture
def faults(read):
    def faults(text: str, environ=ENVIRON) -> tuple[str, ...]:
        with pytest.raises(ConfigInvalid) as refused:
            read(text, environ)
        assert all(fault in str(refused.value) for fault in refused.value.faults)
        return refused.value.faults

    return faults


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("certificate")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gate.example")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    paths = folder / "gate.crt", folder / "gate.pem"
    paths[0].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


def test_the_smallest_configuration(read, tmp_path):
    assert read(TOP + HTTP) == GateConfig(
        server="https://clearinghouse.example",
        data=tmp_path / "data",
        key=KEY,
        dialects={Dialect.HTTP: DialectConfig(Address("127.0.0.1", 8480), Policy(), obeyed=False)},
    )


def test_secrets_are_not_in_its_text(read, tmp_path):
    token = tmp_path / "token"
    token.write_text("secret-token\n")
    token.chmod(0o640)
    config = read(TOP + HTTP + 'token_file = "token"')
    assert config.dialects[Dialect.HTTP].token == "secret-token"
    assert KEY not in repr(config)
    assert "secret-token" not in repr(config)


class TestPrinted:
    """What `--print-config` prints can be loaded, and has every key of the loader."""

    def uncommented(self) -> str:
        return re.sub(r"^#(?=[\[a-z])", "", render_default(), flags=re.MULTILINE)

    @pytest.fixture
    def filled(self, tmp_path, certificate) -> str:
        """All settings, with files that exist."""
        for name in ("gate.key", "gate.token"):
            (tmp_path / name).write_text(KEY)
            (tmp_path / name).chmod(0o600)
        text = self.uncommented().replace("/etc/nciihash/gate.crt", str(certificate[0]))
        text = text.replace("/etc/nciihash/gate.pem", str(certificate[1]))
        return text.replace("/etc/nciihash", str(tmp_path))

    def test_it_loads_as_it_is(self, read):
        config = read(render_default())
        assert list(config.dialects) == [Dialect.HTTP]
        assert replace(config.dialects[Dialect.HTTP], listen=Address()) == DialectConfig(
            Address(), Policy(), obeyed=False
        )

    def test_with_all_settings_it_has_the_defaults(self, read, filled):
        config = read(filled, {})
        assert config.limits == UploadLimits()
        assert config.flood == FloodConfig()
        bare = GateConfig(config.server, config.data, KEY, config.dialects, jobs=2)
        assert config == bare
        assert list(config.dialects) == list(Dialect)
        for dialect, each in config.dialects.items():
            decides = dialect in config_keys.NEED_REVIEW_AS
            assert each.policy == Policy(review_as=Action.CLEAR if decides else None)
            fetches = dialect in {Dialect.HMA, Dialect.PIEFED}
            assert each == DialectConfig(
                each.listen,
                each.policy,
                token=KEY if dialect in config_keys.HTTP_DIALECTS else None,
                hosts=frozenset({"media.example"}) if fetches else frozenset(),
                obeyed=dialect not in {Dialect.HTTP, Dialect.HMA},
            )

    def test_it_has_every_key_and_no_other(self):
        printed = tomllib.loads(self.uncommented())
        assert printed["limits"].keys() == {f.name for f in fields(UploadLimits)}
        assert printed["flood"].keys() == {f.name for f in fields(FloodConfig)}
        tables = {"limits", "flood", "policy", *Dialect}
        names = {f.name for f in fields(GateConfig)} - {"dialects", "key"} | {"key_file"}
        assert printed.keys() == names | tables
        policies = [printed["policy"], *(printed[d]["policy"] for d in Dialect if d != "piefed")]
        media = {f.name for f in fields(MediaPolicy)}
        for policy in policies:
            assert policy.keys() == {f.name for f in fields(Policy)} - {"review_as"}
            assert policy["video"].keys() == media
            assert policy["image"].keys() == media - {"frames"}
        for dialect in Dialect:
            keys = {key.name for key in config_keys.dialect_keys(dialect)}
            assert printed[dialect].keys() - {"policy"} == keys

    def test_each_key_is_explained_once(self):
        text = render_default()
        tables = (
            config_keys.TOP,
            config_keys.LIMITS,
            config_keys.FLOOD,
            config_keys.POLICY,
            config_keys.VIDEO_POLICY,
            *map(config_keys.dialect_keys, Dialect),
        )
        flat = " ".join(text.replace("\n# ", " ").split())
        for key in {key for table in tables for key in table}:
            assert flat.count(key.text) == 1
            assert key.text.endswith(".")

    def test_lines_are_not_long(self):
        assert max(map(len, render_default().splitlines())) <= 100

    def test_any_missing_required_key_is_named(self, filled, faults):
        for table, keys in [("", config_keys.TOP)] + [
            (f"{d}.", config_keys.dialect_keys(d)) for d in Dialect
        ]:
            for key in keys:
                if not key.required:
                    continue
                head, mark, tail = filled.rpartition(f"\n[{table.rstrip('.')}]\n")
                tail = re.sub(rf"^{key.name} = .*$", "", tail, count=1, flags=re.MULTILINE)
                (fault,) = faults(head + mark + tail)
                assert fault.startswith(f"{table}{key.name}: It is required.")


class TestFaults:
    def test_all_are_named_at_once(self, faults):
        found = faults(
            'server = 5\nveild = true\nmax_age = nan\n[limits]\nqueue = true\n[clamd]\nlisten = ""'
            '\n[policy.image]\nreview = "block"',
            {},
        )
        assert [fault.partition(":")[0] for fault in found] == [
            "veild",
            "server = 5",
            "data",
            "max_age = nan",
            "limits.queue = true",
            'policy.image.review = "block"',
            'clamd.listen = ""',
            "clamd.review_as",
            "key_file",
        ]
        assert found[0] == "veild: There is no such key. Did you mean veiled?"
        assert "docs/evidence.md" in found[5]

    @pytest.mark.parametrize(
        ("text", "fault"),
        [
            (
                HTTP + "dryrun = true",
                "http.dryrun: There is no such key. Did you mean http.dry_run?",
            ),
            (HTTP + "[htp]\n", "htp: There is no such key. Did you mean http?"),
            (HTTP + 'review_as = "block"', "http.review_as: There is no such key."),
            (HTTP + "zzzz = 1", "http.zzzz: There is no such key. `--print-config` has all keys."),
            (HTTP + "[policy.image]\nframes = 0.5", "policy.image.frames: There is no such key."),
            ("", "No protocol is switched on."),
            ("http = 3", "http must be a table: write its keys below a line [http]."),
            (HTTP + "[policy]\nimage = 1", "policy.image must be a table"),
            (
                HTTP + 'level = "deep"',
                'http.level = "deep": Write "fast", "windows" or "thorough".',
            ),
            (HTTP + "share = 1.5", "http.share = 1.5: Write a number from 0 to 1."),
            (HTTP + "share = true", "http.share = true: Write a number from 0 to 1."),
            (HTTP + "[flood]\nseconds = 3601", "flood.seconds = 3601: Write a number from 60 to"),
            (
                HTTP + "[policy.image]\nradius = 32",
                "policy.image.radius = 32: Write a whole number",
            ),
            (HTTP + '[policy]\nunchecked = "maybe"', 'policy.unchecked = "maybe": Write "open" or'),
            (HTTP + '[http.policy.image]\nreview = "block"', 'http.policy.image.review = "block":'),
            (HTTP + '[limits]\nmemory = "5 MB"', "limits.memory: It must be at least as large as"),
            (HTTP + '[limits]\nqueue = "' + "9" * 100 + '"', f'limits.queue = "{"9" * 56}...:'),
            (
                HTTP + '[policy.image]\nstrong = "clear"',
                'http.policy.image.strong = "clear": A clo',
            ),
            ('[clamd]\nlisten = "127.0.0.1:3310"', "clamd.review_as: It is required."),
            (
                '[clamd]\nlisten = "127.0.0.1:3310"\nreview_as = "review"',
                'clamd.review_as = "review": Write "block" or "clear".',
            ),
            ('[piefed]\nlisten = "127.0.0.1:1"', "piefed.hosts: It is required"),
            (
                '[piefed]\nlisten = "127.0.0.1:1"\nhosts = ["media.example"]\nlevel = "fast"',
                "piefed.level: There is no such key.",
            ),
            (
                '[piefed]\nlisten = "127.0.0.1:1"\nhosts = ["media.example"]\n[piefed.policy]',
                "piefed.policy: There is no such key.",
            ),
            ('[hma]\nlisten = "127.0.0.1:1"\nhosts = ["*"]', "hma.hosts = ['*']: Write a host as"),
        ],
    )
    def test_a_fault_names_the_key_the_value_and_what_to_write(self, faults, text, fault):
        (found,) = faults(TOP + text)
        assert found.startswith(fault)

    def test_a_file_that_is_not_toml(self, faults):
        assert faults("server = ")[0].startswith("It is not valid TOML: ")

    def test_bytes_that_are_not_text(self, tmp_path):
        path = tmp_path / "gate.toml"
        path.write_bytes(b"\xff\xfe")
        with pytest.raises(ConfigInvalid, match="not valid TOML"):
            load(path, ENVIRON)

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            load(tmp_path / "none.toml", ENVIRON)

    def test_control_characters_are_not_repeated(self, faults):
        (found,) = faults(TOP + HTTP + 'level = "\\u001b[2J"')
        assert "\x1b" not in found

    @pytest.mark.parametrize("server", ["http://far.example", "ftp://a", "https://u:pw@a.example"])
    def test_the_address_of_the_clearinghouse_is_checked_and_not_repeated(self, faults, server):
        (found,) = faults(f'server = "{server}"\ndata = "data"\n' + HTTP)
        assert found.startswith("server: ")
        assert faults(f'server = "{server}"\ndata = "data"\n' + HTTP, {})[0] == found  # no key
        assert "pw" not in found


class TestPolicy:
    def test_a_dialect_overrides_what_it_names(self, read):
        config = read(
            TOP
            + '[policy]\nunreadable = "closed"\n[policy.image]\nlikely = "review"\nradius = 20\n'
            + "[policy.video]\nframes = 0.25\n"
            + '[http]\nlisten = "127.0.0.1:1"\n[http.policy]\nunchecked = "closed"\n'
            + '[http.policy.image]\nlikely = "clear"\n'
            + '[icap]\nlisten = "127.0.0.1:2"\nreview_as = "block"\n'
        )
        video = MediaPolicy(frames=0.25)
        assert config.dialects[Dialect.HTTP].policy == Policy(
            MediaPolicy(likely=Action.CLEAR, radius=20),
            video,
            unreadable=Fail.CLOSED,
            unchecked=Fail.CLOSED,
        )
        assert config.dialects[Dialect.ICAP].policy == Policy(
            MediaPolicy(likely=Action.REVIEW, radius=20),
            video,
            unreadable=Fail.CLOSED,
            review_as=Action.BLOCK,
        )

    def test_a_veiled_bank_is_searched_at_the_level_fast(self, read, faults):
        assert read("veiled = true\n" + TOP + HTTP).dialects[Dialect.HTTP].level is Level.FAST
        (fault,) = faults("veiled = true\n" + TOP + HTTP + 'level = "windows"')
        assert fault.startswith('http.level = "windows": Write "fast"')

    def test_a_veiled_bank_has_no_distances(self, faults):
        (fault,) = faults("veiled = true\n" + TOP + HTTP + "[policy.image]\nradius = 20")
        assert fault.startswith("http.policy.image.radius = 20: Remove it")


class TestAddresses:
    @pytest.mark.parametrize(
        ("written", "read"),
        [
            ("127.0.0.1:8480", ("127.0.0.1", 8480, None)),
            ("gate.example.org:0", ("gate.example.org", 0, None)),
            ("[::1]:65535", ("::1", 65535, None)),
            ("unix:/run/gate.sock", ("", 0, Path("/run/gate.sock"))),
        ],
    )
    def test_each_form(self, written, read):
        assert address(written) == read
        host, port, path = read
        assert str(Address(host, port, path)) == written

    @pytest.mark.parametrize(
        "written",
        [
            *("", ":80", "::1:80", "[::1]", "[127.0.0.1]:80", "a:65536", "a:-1", "a:+1", "a: 1"),
            *(
                "a:\N{SUPERSCRIPT TWO}",
                "http://a:80",
                "a/b:80",
                "a b:80",
                "unix:",
                "unix:gate.sock",
            ),
            *("unix:/" + "a" * 120, "unix:/a\0", "[fe80::zz]:1", "*:80", 80, None, ["a:1"]),
            "a" * 64 + ":80",
        ],
    )
    def test_others_are_refused(self, written):
        with pytest.raises(ValueError, match="Write"):
            address(written)

    @given(st.text(max_size=200))
    def test_any_text_is_read_or_refused(self, written):
        try:
            host, port, path = address(written)
        except ValueError:
            return
        assert path is not None or (host and 0 <= port <= 65535)

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "[::1]", "localhost"])
    def test_loopback_needs_neither_tls_nor_a_token(self, read, host):
        assert read(TOP + f'[http]\nlisten = "{host}:8480"').dialects[Dialect.HTTP].listen.local

    def test_neither_does_a_unix_socket(self, read):
        config = read(TOP + '[http]\nlisten = "unix:/run/gate.sock"')
        assert config.dialects[Dialect.HTTP].listen == Address("", 0, Path("/run/gate.sock"))

    @pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "10.0.0.7", "gate.example", "8.8.8.8"])
    def test_other_addresses_need_both(self, read, faults, certificate, tmp_path, host):
        listen = f'listen = "{host}:8480"\n'
        tls = f'certificate = "{certificate[0]}"\ncertificate_key = "{certificate[1]}"\n'
        (tmp_path / "token").write_text("token")
        (tmp_path / "token").chmod(0o600)
        token = 'token_file = "token"\n'
        encrypted, named = faults(TOP + "[http]\n" + listen)
        assert encrypted.startswith(f'http.listen = "{host}:8480": Other machines')
        assert named.startswith("http.token_file: It is required")
        assert faults(TOP + "[http]\n" + listen + tls) == (named,)
        assert faults(TOP + "[http]\n" + listen + "private = true\n") == (named,)
        assert faults(TOP + "[http]\n" + listen + token) == (encrypted,)
        read(TOP + "[http]\n" + listen + tls + token)
        read(TOP + "[http]\n" + listen + "private = true\n" + token)

    @pytest.mark.parametrize(
        "table",
        ['[pictrs]\nreview_as = "block"', "[hma]", '[piefed]\nhosts = ["media.example"]'],
    )
    def test_callers_that_send_no_token_may_be_on_a_private_network(self, read, faults, table):
        text = TOP + table + '\nlisten = "0.0.0.0:8480"\n'
        assert read(text + "private = true")
        assert len(faults(text)) == 2

    def test_a_virus_scanners_protocol_has_no_token(self, read, faults):
        text = TOP + '[clamd]\nlisten = "0.0.0.0:3310"\nreview_as = "clear"\nprivate = true\n'
        assert read(text)
        assert faults(text + 'token_file = "token"')[0].startswith("clamd.token_file: There is no")

    def test_dialects_over_http_may_share_an_address(self, read):
        assert read(TOP + HTTP + '[hma]\nlisten = "127.0.0.1:8480"')

    def test_others_may_not(self, faults):
        (fault,) = faults(TOP + HTTP + '[icap]\nlisten = "127.0.0.1:8480"\nreview_as = "clear"')
        assert fault.startswith('icap.listen = "127.0.0.1:8480": http has the same address')

    def test_those_that_share_one_agree_about_it(self, faults):
        (fault,) = faults(TOP + HTTP + '[hma]\nlisten = "127.0.0.1:8480"\nprivate = true')
        assert "both need the same" in fault

    def test_any_number_may_use_a_free_port(self, read):
        free = 'listen = "127.0.0.1:0"\n'
        read(
            TOP + f"[http]\n{free}private = true\n[icap]\n{free}review_as = 'clear'\n[hma]\n{free}"
        )


class TestCertificates:
    def test_both_files_are_needed(self, faults, certificate):
        (fault,) = faults(TOP + HTTP + f'certificate = "{certificate[0]}"')
        assert (
            fault == "http.certificate: certificate and certificate_key belong together: add both."
        )

    def test_they_must_be_valid(self, faults, certificate):
        tls = f'certificate = "{certificate[1]}"\ncertificate_key = "{certificate[1]}"\n'
        (fault,) = faults(TOP + HTTP + tls)
        assert "must be PEM files that belong together" in fault

    def test_they_must_exist(self, faults, certificate):
        tls = f'certificate = "{certificate[0]}"\ncertificate_key = "none.pem"\n'
        (fault,) = faults(TOP + HTTP + tls)
        assert fault.startswith("http.certificate: No such file")
        assert "none.pem" in fault

    def test_a_unix_socket_has_none(self, faults, certificate):
        tls = f'certificate = "{certificate[0]}"\ncertificate_key = "{certificate[1]}"\n'
        (fault,) = faults(TOP + '[http]\nlisten = "unix:/run/a"\n' + tls)
        assert fault == "http.certificate: Remove it: a Unix socket needs no TLS."


class TestKeys:
    TEXT = 'key_file = "key"\n' + TOP + HTTP

    @pytest.mark.parametrize("mode", [0o600, 0o640, 0o400])
    def test_a_file_that_others_cannot_read(self, read, tmp_path, mode):
        (tmp_path / "key").write_text(f"  {KEY}\n")
        (tmp_path / "key").chmod(mode)
        assert read(self.TEXT, {}).key == KEY
        assert read(self.TEXT, {"NCIIHASH_KEY": "another"}).key == KEY

    @pytest.mark.parametrize("mode", [0o644, 0o606, 0o602])
    def test_a_file_that_others_can_read_or_write(self, faults, tmp_path, mode):
        (tmp_path / "key").write_text(KEY)
        (tmp_path / "key").chmod(mode)
        (fault,) = faults(self.TEXT)
        assert fault.startswith("key_file: Every user of this machine can read it. Run `chmod o= ")

    @pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"\xff" * 9, b"a" * 5000])
    def test_a_file_that_holds_something_else(self, faults, tmp_path, content):
        (tmp_path / "key").write_bytes(content)
        (tmp_path / "key").chmod(0o600)
        (fault,) = faults(self.TEXT)
        assert fault.endswith("must hold one secret, on one line, and nothing else.")

    def test_a_missing_file(self, faults):
        (fault,) = faults(self.TEXT)
        assert fault.startswith("key_file: No such file")

    def test_no_key(self, faults):
        (fault,) = faults(TOP + HTTP, {})
        assert fault.startswith("key_file: Name a file")

    def test_a_key_that_no_clearinghouse_issues(self, faults):
        (fault,) = faults(TOP + HTTP, {"NCIIHASH_KEY": "two words"})
        assert fault.startswith("NCIIHASH_KEY: ")
        assert "two words" not in fault


class TestSizes:
    READ = staticmethod(size(1, 1 << 40))

    @pytest.mark.parametrize(
        ("written", "count"),
        [("64 MiB", 64 << 20), ("1gib", 1 << 30), ("500 MB", 500_000_000), ("9B", 9), (7, 7)],
    )
    def test_forms(self, written, count):
        assert self.READ(written) == count

    @given(st.integers(1, 1 << 40))
    def test_a_size_is_read_as_it_is_shown(self, count):
        assert self.READ(shown_size(count)) == count

    @pytest.mark.parametrize(
        "written", ["", "64", "MiB", "1.5 GiB", "-1 B", 0, -1, True, 1.0, None]
    )
    def test_others_are_refused(self, written):
        with pytest.raises(ValueError, match="Write a size from 1 B to 1024 GiB"):
            self.READ(written)


@pytest.mark.parametrize("written", [float("nan"), float("inf"), -0.1, 1.1, "1", True, None])
def test_numbers_outside_of_their_range_are_refused(written):
    with pytest.raises(ValueError, match="Write a number from 0 to 1"):
        number(0, 1)(written)


def test_host_names_are_compared_in_lowercase_without_a_last_dot():
    assert hosts(["Media.Example.", "b"]) == frozenset({"media.example", "b"})
    assert hosts(["A:8443", "b@10.0.0.0/8"]) == frozenset({"a:8443", "b@10.0.0.0/8"})
    for wrong in (["https://a"], ["a/b"], ["a:0"], ["*.a"], [""], ["a..b"], ["a@1.1.1.1"]):
        with pytest.raises(ValueError, match=r"host"):
            hosts(wrong)
    others: list[object] = [[1], "a", None]
    for other in others:
        with pytest.raises(ValueError, match="Write a list of hosts"):
            hosts(other)


def test_names_of_banks():
    assert bank_names(["NCII", "COOP_1_NCII"]) == ("NCII", "COOP_1_NCII")
    for wrong in ([], ["ncii"], ["A B"], ["A,B"], [""], ["A", "A"], ["A" * 256], [1], "A", None):
        with pytest.raises(ValueError, match="Write a list of different names"):
            bank_names(wrong)
