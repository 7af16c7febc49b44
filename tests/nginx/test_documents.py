"""nginx accepts the example nginx.conf, and the README has every directive."""

import re
import subprocess

from servers import MODULE, NGINX, ROOT

HERE = ROOT / "examples-c/nginx"


def test_the_example_is_one(tmp_path, certificate):
    text = (HERE / "nginx.conf").read_text()
    replaced = {
        "/usr/lib/nginx/modules/ngx_http_push_module.so": str(MODULE),
        "/etc/letsencrypt/live/www.example.org/fullchain.pem": str(certificate[0]),
        "/etc/letsencrypt/live/www.example.org/privkey.pem": str(certificate[1]),
        "/var/log/nginx/access.log": str(tmp_path / "access.log"),
        "/run/nginx.pid": str(tmp_path / "nginx.pid"),
        "include mime.types;": "",
        # Ports and a user that need root.
        "user www-data;": "", "listen 80;": "listen 127.0.0.1:8080;", "listen 443 ": "listen 127.0.0.1:8443 ",
        "http {": "http {\n" + "".join(
            f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        ),
    }  # fmt: skip
    for old, new in replaced.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (tmp_path / "nginx.conf").write_text(text)
    ran = subprocess.run(
        [NGINX, "-p", tmp_path, "-e", tmp_path / "error.log", "-c", "nginx.conf", "-t"], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr


def test_the_readmes_locations_are_some(tmp_path):
    """All blocks of configuration in the README, together in one server."""
    readme = (HERE / "README.md").read_text()
    blocks = [block for block in re.findall(r"```nginx\n(.*?)```", readme, re.S) if "http {" not in block]
    assert len(blocks) == 4, blocks
    text = "\n".join(blocks).replace("include fastcgi_params;", "").replace("//application", "//127.0.0.1:1")
    # The same place is shown in several ways.
    for name in ("= /live ", "= /session "):
        count = iter(range(text.count(name)))
        text = re.sub(re.escape(name), lambda _: f"= /{next(count)}{name[3:]}", text)
    paths = "".join(f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in
                    ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))  # fmt: skip
    (tmp_path / "nginx.conf").write_text(
        f"load_module {MODULE};\nworker_processes 1;\npid nginx.pid;\nevents {{}}\nhttp {{\n{paths}access_log off;\n"
        "limit_req_zone $binary_remote_addr zone=subscribe:1m rate=5r/s;\n"
        f"server {{\nlisten unix:{tmp_path}/http;\n{text}}}\n}}\n"
    )
    ran = subprocess.run(
        [NGINX, "-p", tmp_path, "-e", tmp_path / "error.log", "-c", "nginx.conf", "-t"], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr + text


def test_every_directive_and_variable_is_documented():
    source = "".join(path.read_text() for path in HERE.glob("*.c"))
    directives = set(re.findall(r'ngx_string\("(push_[a-z_]+)"\), \w', source)) - {"push_check"}
    assert len(directives) == 23, directives
    readme = (HERE / "README.md").read_text()
    assert [name for name in directives if name not in readme] == []
