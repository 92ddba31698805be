"""The agent as it ships against TLS servers of others: OpenSSL's, GnuTLS's and nginx. What must be refused is, with a line
in the log that says what is wrong; what must be accepted is; connections are resumed; names resolve on a bare device."""

import contextlib
import functools
import os
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time

from harness import TOP, Bench, Failure, Node, Skip, TLSFiles, check, equal, free_port, track, wait_until

MAKE_CERTIFICATES = r"""
set -e
cat >ca.cnf <<'END'
[ca]
default_ca = this
[this]
database = index.txt
new_certs_dir = .
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
copy_extensions = none
[any]
commonName = supplied
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
[authority0]
basicConstraints = critical, CA:true, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
[good]
basicConstraints = CA:false
subjectAltName = DNS:localhost, DNS:*.wild.test, IP:127.0.0.1
[other]
basicConstraints = CA:false
subjectAltName = DNS:other.test, IP:127.0.0.2
[bare]
basicConstraints = CA:false
[client_only]
subjectAltName = DNS:localhost
extendedKeyUsage = clientAuth
[encrypt_only]
subjectAltName = DNS:localhost
keyUsage = critical, keyEncipherment
END
: >index.txt
key() { openssl ecparam -name prime256v1 -genkey -noout -out $1.key; }
root() { key $1; openssl req -x509 -new -key $1.key -subj "/CN=$1" -days 30 -config ca.cnf -extensions $2 -out $1.pem; }
sign() { # NAME EXTENSIONS ISSUER [options of openssl ca]
    local name=$1 extensions=$2 issuer=$3; shift 3
    [ -f $name.key ] || key $name
    openssl req -new -key $name.key -subj "/CN=${subject:-$name}" -config ca.cnf -out $name.csr
    openssl ca -batch -notext -config ca.cnf -cert $issuer.pem -keyfile $issuer.key -extensions $extensions \
        -in $name.csr -out $name.pem -days 30 "$@"
}
root root authority
root stranger authority
sign good good root
sign other other root
subject=localhost sign bare bare root
sign client_only client_only root
sign expired good root -startdate 200101000000Z -enddate 210101000000Z
sign future good root -startdate 20900101000000Z -enddate 20910101000000Z
sign unknown good stranger
root self good
sign sha1 good root -md sha1
openssl genrsa -out rsa.key 2048; sign rsa good root
cp rsa.key encrypt_only.key; sign encrypt_only encrypt_only root
openssl genrsa -out rsa1024.key 1024; sign rsa1024 good root
openssl ecparam -name prime192v1 -genkey -noout -out p192.key; sign p192 good root
openssl genrsa -out rsa_middle.key 2048; sign rsa_middle authority root
cp rsa.key rsa_chained.key; sign rsa_chained good rsa_middle; cat rsa_middle.pem >>rsa_chained.pem
sign md5 good rsa_middle -md md5; cat rsa_middle.pem >>md5.pem
sign middle authority root
sign chained good middle; cp chained.pem broken.pem; cp chained.key broken.key; cat middle.pem >>chained.pem
sign no_authority good root
sign under_leaf good no_authority; cat no_authority.pem >>under_leaf.pem
sign short authority0 root
sign below authority short
sign too_long good below; cat below.pem short.pem >>too_long.pem
sign revoked good root
sign withdrawn authority root
sign below_revoked good withdrawn
for name in revoked withdrawn; do openssl ca -config ca.cnf -cert root.pem -keyfile root.key -revoke $name.pem; done
cat withdrawn.pem >>below_revoked.pem
openssl ca -gencrl -config ca.cnf -cert root.pem -keyfile root.key -crldays 30 -out root.crl
"""


class Certificates:
    def __init__(self, folder):
        if not shutil.which("openssl"):
            raise Skip("openssl is not installed")
        self.folder = os.path.join(folder, "certificates")
        os.mkdir(self.folder)
        made = subprocess.run(["bash", "-c", MAKE_CERTIFICATES], cwd=self.folder, capture_output=True, text=True)
        check(made.returncode == 0, f"openssl made no certificates: {made.stderr[-2000:]}")

    def path(self, name):
        return os.path.join(self.folder, name)

    def pin(self, name):
        """As the README says that a person finds it."""
        return subprocess.run(
            f"openssl x509 -in {self.path(name + '.pem')} -noout -pubkey | openssl pkey -pubin -outform der | sha256sum",
            shell=True, check=True, capture_output=True, text=True).stdout[:64]


@functools.cache
def need(command, shell_words, version):
    """The path of a program for tests; what installs it are words for Tools/lib/common.sh."""
    done = subprocess.run(
        ["bash", "-c", f"source {TOP}/Tools/lib/common.sh; {shell_words}; command -v {command}"], capture_output=True,
        text=True)
    path = done.stdout.strip().splitlines()[-1:] or [""]
    if done.returncode != 0 or subprocess.run([path[0], version], capture_output=True).returncode != 0:
        raise Skip(f"{command} cannot be had here: {done.stderr.strip()[-300:]}")
    return path[0]


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def listening_ports():
    ports = set()
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError), open(name) as file:
            for line in list(file)[1:]:
                fields = line.split()
                if fields[3] == "0A":
                    ports.add(int(fields[1].rpartition(":")[2], 16))
    return ports


WEAK_OPENSSL = ["-cipher", "ALL:@SECLEVEL=0"]
ENVIRONMENT = {**os.environ, "OPENSSL_CONF": "/dev/null"}


class Server:
    """One server of one maker with one certificate. `kind` says in what it is wrong, if not in its certificate."""

    def __init__(self, name, certificates, certificate, kind, port):
        self.name, self.certificates, self.certificate, self.kind, self.port = name, certificates, certificate, kind, port
        self.process, self.output = None, b""

    @property
    def chain(self):
        return self.certificates.path(self.certificate + ".pem")

    @property
    def key(self):
        return self.certificates.path(self.certificate + ".key")

    def spawn(self, command):
        self.process = subprocess.Popen(
            command, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        while data := os.read(self.process.stdout.fileno(), 65536):
            self.output += data
            with contextlib.suppress(OSError):
                self.took(data)

    def took(self, data):
        pass

    def close(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.reader.join()
            self.process.stdin.close()
            self.process.stdout.close()


class OpenSSL(Server):
    OPTIONS = {
        "weak": WEAK_OPENSSL,
        "tls10": ["-tls1", *WEAK_OPENSSL],
        "tls11": ["-tls1_1", *WEAK_OPENSSL],
        "cbc": ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES128-SHA"],
        "static": ["-tls1_2", "-cipher", "AES128-GCM-SHA256"],
        "dhe": ["-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256"],
        "sha1": ["-tls1_2", "-sigalgs", "ECDSA+SHA1", *WEAK_OPENSSL],
        "ids": ["-tls1_2", "-no_ticket"],
    }

    def start(self):
        options = self.OPTIONS.get(self.kind, ["-tls1_2"])
        if self.kind == "wants":
            options += ["-Verify", "2", "-verify_return_error", "-CAfile", self.certificates.path("root.pem")]
        self.spawn(["openssl", "s_server", "-accept", f"127.0.0.1:{self.port}", "-cert", self.chain, "-cert_chain",
                    self.chain, "-key", self.key, *options])

    def took(self, data):
        """Answers a request as soon as its head has come, in its own way."""
        if b"\r\n\r\n" not in data:
            return
        if self.kind == "renegotiates":
            self.write(b"r\n")
        elif self.kind == "cut":
            self.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of")
            time.sleep(0.3)
            self.process.kill()
        else:
            self.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    def write(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def resumed(self):
        return self.output.count(b"Reused session-id")


class GnuTLS(Server):
    PRIORITIES = {
        "weak": "NORMAL:+SIGN-RSA-SHA1:+SIGN-ECDSA-SHA1:%PROFILE_VERY_WEAK",
        "tls10": "NORMAL:-VERS-ALL:+VERS-TLS1.0",
        "tls11": "NORMAL:-VERS-ALL:+VERS-TLS1.1",
        "cbc": "NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-128-CBC",
        "rc4": "NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+ARCFOUR-128:+SHA1",
        "static": "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+RSA",
        "dhe": "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+DHE-RSA",
        "sha1": "NORMAL:-VERS-ALL:+VERS-TLS1.2:-SIGN-ALL:+SIGN-ECDSA-SHA1",
    }

    def start(self):
        options = ["--priority", self.PRIORITIES.get(self.kind, "NORMAL")]
        if self.kind == "wants":
            options += ["--require-client-cert", "--verify-client-cert", "--x509cafile", self.certificates.path("root.pem")]
        else:
            options += ["--disable-client-cert"]
        if self.kind == "ids":
            options += ["--noticket"]
        self.spawn([need("gnutls-serv", "install_debian gnutls-bin", "--version"), "--port", str(self.port),
                    "--x509certfile", self.chain, "--x509keyfile", self.key, *options])

    def resumed(self):
        return self.output.count(b"resumed session")


class Nginx:
    """All servers of one list in one process, with a line in a file for each request."""

    OPTIONS = {
        "weak": "ssl_ciphers ALL:@SECLEVEL=0;",
        "tls10": "ssl_protocols TLSv1; ssl_ciphers ALL:@SECLEVEL=0;",
        "tls11": "ssl_protocols TLSv1.1; ssl_ciphers ALL:@SECLEVEL=0;",
        "cbc": "ssl_ciphers ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES128-SHA;",
        "static": "ssl_ciphers AES128-GCM-SHA256;",
        "dhe": "ssl_ciphers DHE-RSA-AES128-GCM-SHA256;",
        "sha1": "ssl_ciphers ALL:@SECLEVEL=0; ssl_conf_command SignatureAlgorithms ECDSA+SHA1;",
        "ids": "ssl_session_tickets off; ssl_session_cache shared:ids:1m; ssl_session_timeout 1d;",
        "tickets": "ssl_session_tickets on; ssl_session_timeout 1d;",
    }

    def __init__(self, folder, servers):
        self.folder = os.path.join(folder, f"nginx-{servers[0].port}")
        os.makedirs(self.folder)
        blocks = ""
        for server in servers:
            options = self.OPTIONS.get(server.kind, "")
            if server.kind == "wants":
                options = f"ssl_verify_client on; ssl_client_certificate {server.certificates.path('root.pem')};"
            text = "half of it and more " * 150 if server.kind == "cut" else ""
            rate = "limit_rate 500;" if server.kind == "cut" else ""
            protocols = "" if "ssl_protocols" in options else "ssl_protocols TLSv1.2;"
            blocks += f"""
    server {{ listen 127.0.0.1:{server.port} ssl; ssl_certificate {server.chain}; ssl_certificate_key {server.key};
        {protocols} {options} {rate} location / {{ return 200 "{text}"; }} }}"""
        with open(self.path("nginx.conf"), "w") as file:
            file.write(f"""daemon off; master_process off; pid {self.path('pid')}; error_log {self.path('errors')} warn;
events {{ }}
http {{
    log_format one "$server_port $ssl_session_reused $status"; access_log {self.path('requests')} one;
    keepalive_timeout 0; client_body_temp_path {self.path('1')}; proxy_temp_path {self.path('2')};
    fastcgi_temp_path {self.path('3')}; uwsgi_temp_path {self.path('4')}; scgi_temp_path {self.path('5')};{blocks}
}}
""")
        command = need("nginx", "unpack_debian nginx; PATH=$PATH:$unpacked/usr/sbin", "-v")
        self.process = subprocess.Popen(
            [command, "-e", self.path("errors"), "-p", self.folder, "-c", self.path("nginx.conf")], env=ENVIRONMENT)

    def path(self, name):
        return os.path.join(self.folder, name)

    def text(self, name):
        with contextlib.suppress(OSError), open(self.path(name)) as file:
            return file.read()
        return ""

    def close(self):
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def running(bench, servers):
    """Starts servers, those of nginx in one process (which is given), and ends them."""
    with contextlib.ExitStack() as stack:
        of_nginx = [server for server in servers if type(server) is Server]
        nginx = Nginx(bench.folder, of_nginx) if of_nginx else None
        if nginx:
            stack.callback(nginx.close)
        for server in servers:
            if type(server) is not Server:
                server.start()
                stack.callback(server.close)
        missing = set()

        def all_listen():
            missing.clear()
            missing.update(server.name for server in servers if server.port not in listening_ports())
            return not missing
        try:
            wait_until(all_listen, 20, "")
        except Failure:
            raise Failure(f"these servers do not listen: {sorted(missing)}; nginx says {nginx and nginx.text('errors')}")
        yield nginx


MAKERS = {"openssl": OpenSSL, "gnutls": GnuTLS, "nginx": Server}


def make_servers(certificates, cases, makers=MAKERS):
    """cases: (name, certificate, kind, makers or None, …)."""
    wanted = [(maker, case) for case in cases for maker in makers if case[3] is None or maker in case[3]]
    ports = free_ports(len(wanted))
    return [(MAKERS[maker](f"{maker}-{case[0]}", certificates, case[1], case[2], port), case)
            for (maker, case), port in zip(wanted, ports)]


class Hosts:
    """Starts the agent with names of its own, in a mount namespace."""

    def __init__(self, folder):
        self.file = os.path.join(folder, "hosts")
        with open(self.file, "w") as file:
            file.write("127.0.0.1 localhost a.wild.test a.b.wild.test wild.test\n")
        self.prefix = ["unshare", "-rm", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', self.file]
        tried = subprocess.run([*self.prefix, "true"], capture_output=True, text=True)
        if tried.returncode != 0:
            raise Skip(f"no namespaces here: {tried.stderr.strip()}")


def bundle_of(bench, name, destinations):
    """destinations: (name, url, further settings)."""
    path = os.path.join(bench.folder, f"{name}.bundle.yaml")
    with open(path, "w") as file:
        file.write("version: 1\npurposes: [analytics]\nidentifiers: { user_id: { from: [userId], send: hmac } }\n"
                   'events: { "*": { purpose: analytics, tier: realtime } }\ndestinations:\n')
        for destination, url, more in destinations:
            file.write(f"  {destination}: {{ url: '{url}', purpose: analytics{more} }}\n")
    return path


def agents_for(bench, name, servers, settings, prefix):
    """Agents of up to 16 destinations each. servers: (server, host, further settings of the destination)."""
    for start in range(0, len(servers), 16):
        part = [(server.name, f"https://{host}:{server.port}/v1/batch", more)
                for server, host, more in servers[start:start + 16]]
        own = f"{name}{start // 16}"
        yield bench.agent(bundle=bundle_of(bench, own, part), settings=settings, name=own, prefix=prefix)


def complaints(agent):
    """What the log says first of each destination that cannot be reached."""
    found = {}
    with open(agent.log_path, errors="replace") as file:
        for line in file:
            said = re.search(r'msg="destination cannot be reached" destination=(\S+) fallback=0 reason="([^"]*)"', line)
            if said:
                found.setdefault(said[1], said[2])
    return found


REFUSED = [
    # Name, certificate, kind, makers, host, further settings, words that the message must have, one of them.
    ("expired", "expired", "", None, "localhost", "", ["has expired: renew it"]),
    ("future", "future", "", None, "localhost", "", ["is not valid yet: set this device's clock"]),
    ("other", "other", "", None, "localhost", "", ["is not for host localhost: its subjectAltName must list"]),
    ("bare", "bare", "", None, "localhost", "", ["is not for host localhost"]),
    ("address", "other", "", None, "127.0.0.1", "", ["is not for host 127.0.0.1"]),
    ("deep", "good", "", None, "a.b.wild.test", "", ["is not for host a.b.wild.test"]),
    ("no-label", "good", "", None, "wild.test", "", ["is not for host wild.test"]),
    ("self", "self", "", None, "localhost", "", ["not signed by an authority that is trusted here: give the right file"]),
    ("unknown", "unknown", "", None, "localhost", "", ["not signed by an authority"]),
    ("broken", "broken", "", None, "localhost", "", ["let the server send its whole chain"]),
    ("no-authority", "under_leaf", "", None, "localhost", "", ["is not allowed to issue it (CA bit, path length)"]),
    ("path-length", "too_long", "", None, "localhost", "", ["is not allowed to issue it"]),
    ("client-only", "client_only", "", None, "localhost", "", ["is not for this use: check its keyUsage"]),
    # A server may see itself that it cannot sign with such a certificate.
    ("encrypt-only", "encrypt_only", "", None, "localhost", "", ["is not for this use", "refused the connection"]),
    ("revoked", "revoked", "", None, "localhost", "", ["has been revoked"]),
    ("below-revoked", "below_revoked", "", None, "localhost", "", ["or of one of its issuers, has been revoked"]),
    ("rsa1024", "rsa1024", "weak", None, "localhost", "", ["too weak: SHA-256 or better, RSA from 2048 bits"]),
    ("p192", "p192", "weak", None, "localhost", "", ["too weak", "refused the connection"]),
    ("sha1", "sha1", "weak", None, "localhost", "", ["too weak"]),
    ("md5", "md5", "weak", None, "localhost", "", ["too weak"]),
    ("pin", "good", "", None, "localhost", ", pins: [{pin}]", ["shows none of the public keys in pins"]),
    ("tls10", "rsa", "tls10", None, "localhost", "", ["does not speak TLS 1.2", "no cipher suite in common (TLS 1.2 with ECDHE"]),
    ("tls11", "rsa", "tls11", None, "localhost", "", ["does not speak TLS 1.2", "no cipher suite in common (TLS 1.2 with ECDHE"]),
    ("cbc", "good", "cbc", None, "localhost", "", ["no cipher suite in common (TLS 1.2 with ECDHE"]),
    ("rc4", "rsa", "rc4", ["gnutls"], "localhost", "", ["no cipher suite in common (TLS 1.2 with ECDHE"]),
    ("static-rsa", "rsa", "static", None, "localhost", "", ["no cipher suite in common (TLS 1.2 with ECDHE"]),
    ("dhe", "rsa", "dhe", ["openssl", "gnutls"], "localhost", "", ["no cipher suite in common (TLS 1.2 with ECDHE"]),
    ("signature", "good", "sha1", None, "localhost", "", ["refused the connection", "no cipher suite in common (TLS 1.2 with ECDHE"]),
    ("wants", "good", "wants", None, "localhost", "",
     ["asks for a certificate of this device: give tls.client_cert and tls.client_key"]),
    ("renegotiates", "good", "renegotiates", ["openssl"], "localhost", "", ["asked to negotiate TLS anew"]),
    ("cut", "good", "cut", ["openssl"], "localhost", "", ["closed the connection in the middle of its answer"]),
]


def test_what_must_be_refused_is_and_the_log_says_why(bench):
    certificates = Certificates(bench.folder)
    hosts = Hosts(bench.folder)
    settings = f"tls: {{ ca: {certificates.path('root.pem')}, crl: {certificates.path('root.crl')} }}"
    pairs = make_servers(certificates, REFUSED)
    pin = certificates.pin("other")
    with running(bench, [server for server, _ in pairs]):
        places = [(server, case[4], case[5].replace("{pin}", pin)) for server, case in pairs]
        agents = list(agents_for(bench, "refused", places, settings, hosts.prefix))
        for agent in agents:
            agent.batch([track("ada", "Order Completed")])
        expected = {server.name: case[6] for server, case in pairs}
        said = {}

        def all_said():
            for agent in agents:
                said.update(complaints(agent))
            return len(said) == len(expected)
        with contextlib.suppress(Failure):
            wait_until(all_said, 30, "", 0.1)
        wrong = [f"{name}: {said.get(name, 'nothing was said')!r}" for name, words in expected.items()
                 if not any(word in said.get(name, "") for word in words)]
        check(not wrong, "not refused for the reason that is so:\n" + "\n".join(wrong))
        for agent in agents:
            for name, terms in agent.accounts()[1].items():
                equal((terms["delivered"], terms["queued"], terms.get("rejected", 0)), (0, 1, 0), f"accounts of {name}")


def test_an_answer_of_nginx_that_is_cut_off_counts_for_nothing(bench):
    certificates = Certificates(bench.folder)
    server = Server("cut", certificates, "good", "cut", free_port())
    with running(bench, [server]) as nginx:
        settings = f"tls: {{ ca: {certificates.path('root.pem')} }}"
        agent = bench.agent(
            bundle=bundle_of(bench, "cut", [("cut", f"https://localhost:{server.port}/", "")]), settings=settings)
        agent.batch([track("ada", "Order Completed")])
        time.sleep(0.7)
        equal(agent.accounts()[1]["cut"]["queued"], 1, "an answer that goes on has not come yet")
        nginx.process.send_signal(signal.SIGKILL)
        wait_until(lambda: "in the middle of its answer" in complaints(agent).get("cut", ""), 10, f"{agent.log()}")
        equal(agent.accounts()[1]["cut"]["queued"], 1, "what was cut off")


ACCEPTED = [
    ("ecdsa", "good", "", None, "localhost", ""),
    ("rsa", "rsa", "", None, "localhost", ""),
    ("ecdsa-chain", "chained", "", None, "localhost", ""),
    ("rsa-chain", "rsa_chained", "", None, "localhost", ""),
    ("address", "good", "", None, "127.0.0.1", ""),
    ("wildcard", "rsa", "", None, "a.wild.test", ""),
    ("pinned", "chained", "", None, "localhost", ", pins: [{pin}]"),
    ("mutual", "good", "wants", None, "localhost", ""),
    ("tickets", "good", "tickets", None, "localhost", ""),
    ("ids", "rsa", "ids", None, "localhost", ""),
]


def test_what_must_be_accepted_is_and_is_resumed_by_ticket_and_by_id(bench):
    certificates = Certificates(bench.folder)
    hosts = Hosts(bench.folder)
    own = certificates.path("client_only")
    settings = (f"tls: {{ ca: {certificates.path('root.pem')}, crl: {certificates.path('root.crl')}, "
                f"client_cert: {own}.pem, client_key: {own}.key }}")
    pairs = make_servers(certificates, ACCEPTED)
    pin = certificates.pin("middle")
    with running(bench, [server for server, _ in pairs]) as nginx:
        places = [(server, case[4], case[5].replace("{pin}", pin)) for server, case in pairs]
        agents = list(agents_for(bench, "accepted", places, settings, hosts.prefix))
        for number in range(1, 4):
            for agent in agents:
                agent.batch([track("ada", "Order Completed")])
                wait_until(
                    lambda: all(is_accepted(agent, name, terms, number) for name, terms in agent.accounts()[1].items()), 20,
                    f"not everything arrived: {agent.accounts()[1]}\n{agent.log()}", 0.02)
        for agent in agents:
            for name, words in complaints(agent).items():
                check(name.startswith("gnutls") and NO_HTTP in words, f"{name}: {words}")

        def resumed(server):
            of_nginx = nginx.text("requests").split("\n").count(f"{server.port} r 200")
            return of_nginx if type(server) is Server else server.resumed()
        for server, case in pairs:
            if case[2] in ("tickets", "ids"):
                wait_until(lambda: resumed(server) >= 2, 20, f"{server.name} has not resumed two connections")


NO_HTTP = "answers with something that is not HTTP/1.1"


def is_accepted(agent, name, terms, number):
    # To a POST gnutls-serv answers with a page without a status line. That it does, through TLS, is all that is asked of it;
    # the agent goes on trying, with new connections.
    return NO_HTTP in complaints(agent).get(name, "") or terms["delivered"] >= number


def test_an_hour_of_reconnects_takes_one_full_handshake(bench):
    certificates = Certificates(bench.folder)
    names = {"by-ticket": "tickets", "by-id": "ids"}
    servers = [Server(name, certificates, "good", kind, port)
               for (name, kind), port in zip(names.items(), free_ports(2))]
    with running(bench, servers) as nginx:
        agent = bench.agent(
            bundle=bundle_of(bench, "hour", [(s.name, f"https://localhost:{s.port}/", "") for s in servers]),
            settings=f"tls: {{ ca: {certificates.path('root.pem')} }}")
        for minute in range(1, 61):
            agent.batch([track("ada", "Order Completed")])
            wait_until(lambda: all(t["delivered"] == minute for t in agent.accounts()[1].values()), 10, agent.log(), 0.005)
        for server in servers:
            lines = [line for line in nginx.text("requests").split("\n") if line.startswith(f"{server.port} ")]
            equal((lines.count(f"{server.port} . 200"), lines.count(f"{server.port} r 200"), len(lines)), (1, 59, 60),
                  f"full and resumed handshakes {server.name}")


def test_who_may_connect_is_said_by_client_ca_and_crl(bench):
    certificates = Certificates(bench.folder)
    settings = (f"tls: {{ cert: {certificates.path('good.pem')}, key: {certificates.path('good.key')}, "
                f"client_ca: {certificates.path('root.pem')}, crl: {certificates.path('root.crl')} }}\n"
                f"socket: {os.path.join(bench.folder, 'agent.sock')}")
    node = Node(bench.folder, settings=settings, name="strict")
    bench.nodes.append(node)
    node.start(wait=False)

    def connect(name):
        context = ssl.create_default_context(cafile=certificates.path("root.pem"))
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        if name:
            context.load_cert_chain(certificates.path(name + ".pem"), certificates.path(name + ".key"))
        with socket.create_connection(("127.0.0.1", node.port), 10) as plain, \
                context.wrap_socket(plain, server_hostname="localhost") as one:
            one.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return one.recv(100)
    wait_until(lambda: node.port in listening_ports(), 20, f"the agent does not listen: {node.log()}")
    check(connect("client_only").startswith(b"HTTP/1.1 200"), "a client with a certificate")
    for name in ("", "unknown", "expired", "revoked", "below_revoked"):
        try:
            answer = connect(name)
        except OSError:
            continue
        check(not answer, f"a client with {name or 'no'} certificate was answered {answer!r}")


def test_a_tls_connection_takes_so_much_memory(bench):
    hub = bench.hub()
    context = ssl.create_default_context(cafile=hub.tls.authority)
    before = hub.rss_anon_kib()
    open_ones = []
    count = 200
    try:
        for _ in range(count):
            plain = socket.create_connection(("127.0.0.1", hub.port), 10)
            open_ones.append(context.wrap_socket(plain, server_hostname="localhost"))
        each = (hub.rss_anon_kib() - before) / count
        print(f"      a TLS connection takes {each:.1f} KiB", flush=True)
        check(each < 48, f"{each:.1f} KiB a connection")
    finally:
        for one in open_ones:
            one.close()


# --- Names, in a network namespace in which this file runs once more ---

def test_names_resolve_on_a_bare_device_and_a_dead_resolver_delays_no_decision(bench):
    command = ["unshare", "-rmn", sys.executable, "-B", os.path.abspath(__file__)]
    if subprocess.run([*command[:2], "true"], capture_output=True).returncode != 0:
        raise Skip("no namespaces here")
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    print(done.stdout, end="", flush=True)
    check(done.returncode == 0, f"{done.stdout[-1000:]}{done.stderr[-3000:]}")


class Resolver(threading.Thread):
    """Answers each question about hub.test with 127.0.0.1; says nothing to others (RFC 1035 section 4)."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 53))
        self.questions = 0

    def run(self):
        while True:
            question, sender = self.socket.recvfrom(512)
            self.questions += 1
            name = question[12:question.index(b"\0", 12)]
            if name != b"\x03hub\x04test":
                continue
            kind = struct.unpack(">H", question[12 + len(name) + 1:12 + len(name) + 3])[0]
            body = question[12:12 + len(name) + 5]
            records = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x7f\0\0\x01" if kind == 1 else b""
            head = question[:2] + b"\x81\x80" + struct.pack(">HHHH", 1, 1 if records else 0, 0, 0)
            self.socket.sendto(head + body + records, sender)


def bare_device():
    """As root of namespaces of its own: loopback only, and a root folder that holds nothing but the agent, its files and a
    resolv.conf."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    bench = Bench()
    try:
        root = os.path.join(bench.folder, "root")
        os.makedirs(os.path.join(root, "etc"))
        certificates = TLSFiles(bench.folder)
        resolver = Resolver("127.0.0.1")
        resolver.start()
        with open(os.path.join(root, "etc", "resolv.conf"), "w") as file:
            file.write("nameserver 127.0.0.1\n")
        bundle = bundle_of(bench, "names", [
            ("known", "http://localhost:1/", ""), ("hub", "https://hub.test:9443/", ""), ("lost", "https://lost.test/", "")])
        for name in (bundle, certificates.authority):
            shutil.copy(name, os.path.join(root, os.path.basename(name)))
        shutil.copy(os.path.join(TOP, "dist", "gatehouse-x86_64"), os.path.join(root, "gatehouse"))
        port = free_port()
        with open(os.path.join(root, "gatehouse.yaml"), "w") as file:
            file.write(f"listen: 127.0.0.1:{port}\ndata: /data\ntls: {{ ca: /ca.pem }}\n"
                       f"bundle: {{ file: /{os.path.basename(bundle)} }}\n")
        check(not os.listdir(os.path.join(root, "etc"))[1:], "a bare device has more than resolv.conf")
        log = open(os.path.join(bench.folder, "log"), "wb")
        agent = subprocess.Popen(
            ["chroot", root, "/gatehouse", "run", "--config", "/gatehouse.yaml"], stdout=log, stderr=log)
        try:
            watch_names(bench, agent, port, resolver)
        finally:
            agent.terminate()
            agent.wait(20)
            check(agent.returncode == 0, f"the agent ended with {agent.returncode}")
    finally:
        bench.close()


def watch_names(bench, agent, port, resolver):
    import http.client

    def call(method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()

    def log():
        with open(os.path.join(bench.folder, "log"), errors="replace") as file:
            return file.read()

    def is_there():
        check(agent.poll() is None, f"the agent ended: {log()}")
        with contextlib.suppress(OSError):
            return call("GET", "/healthz")[0] == 200
        return False

    wait_until(is_there, 10, "the agent does not answer")
    import json
    begin = time.monotonic()
    equal(call("POST", "/v1/batch", json.dumps({"batch": [track("ada", "Order Completed")]}))[0], 200, "a batch")
    # Nobody listens at 9443: that it is tried there is enough.
    wait_until(lambda: "no connection to hub.test port 9443: " in log(), 10, f"hub.test was not resolved: {log()}")
    slowest, said_at = 0.0, None
    while said_at is None:
        check(time.monotonic() - begin < 20, f"nothing is said of the name that nobody knows: {log()}")
        asked = time.monotonic()
        call("POST", "/ofrep/v1/evaluate/flags", '{"context":{"targetingKey":"ada"}}')
        slowest = max(slowest, time.monotonic() - asked)
        if "lost.test cannot be resolved: " in log():
            said_at = time.monotonic() - begin
    print(f"      a resolver that says nothing is given up after {said_at:.1f} s; slowest decision meanwhile "
          f"{slowest * 1000:.0f} ms")
    check(said_at > 2, "the resolver was not waited for")
    check(slowest < 1, f"a decision took {slowest:.2f} s")
    check(resolver.questions > 0, "the resolver was not asked")


if __name__ == "__main__":
    bare_device()
