//! Options: where is listened, and where subscribers find it.

use super::{list, DAY, SECOND};
use crate::config::showing::Raw;
use crate::config::{hosts, values};
use std::slice;

options! {
    /// Where the library itself accepts subscribers. `none`: nowhere; the host hands its connections over. At `tls:`
    /// addresses it speaks HTTPS and WSS, with `tls_certificate`
    listen = "127.0.0.1:8090", fixed,
        Text("none, or a list of IP:PORT, localhost:PORT, tls:IP:PORT and unix:PATH", values::addresses);

    /// The file with the certificate in PEM, and those of its issuers behind it (Let's Encrypt's `fullchain.pem`).
    /// Several files: the client gets the one for the name that it asks for. They are read at the start and at a reload
    tls_certificate = "", live, Text("a list of paths, or nothing", paths);

    /// The file with the private key of the certificate in PEM (`privkey.pem`), without a passphrase. One for each file
    /// in `tls_certificate`, in the same order
    tls_key = "", live, Text("a list of paths, or nothing", paths);

    /// A file with the certificates of authorities in PEM. At `tls:` addresses of `control` each client then needs a
    /// certificate of one of them. Then every TCP address of `control` must begin with `tls:`
    tls_client_ca = "", live, Text("a path, or nothing", |text| (!text.contains('\0')).then(|| text.into()));

    /// `auto`: after the handshake the kernel encrypts and decrypts the connections to `listen`, where it has TLS
    /// (module `tls`) and their cipher. The library does it for all others. `off`: the library does it for all
    tls_kernel = "off", live, Word("off or auto", "off" => false, "auto" => true)
        shown |config| Raw::Text(if config.tls_kernel { "auto" } else { "off" }.into());

    /// The path of the subscribers' URL
    path = "/push", live,
        Text("a path that begins with / and has no ?, # or spaces", |text| is_path(text).then(|| text.into()));

    /// A path at which `listen` answers load balancers: with 200, or with 503 while the server goes away. Empty: there
    /// is no such path
    health_path = "/healthz", live, Text(
        "a path that begins with / and has no ?, # or spaces, or nothing",
        |text| (text.is_empty() || is_path(text)).then(|| text.into())
    );

    /// The names by which clients may address `listen` (`Host`), without ports. `*.example.org`: all names below
    /// example.org. `*`: any name. Names of the loopback, such as localhost, are always allowed. Empty: any name,
    /// except on a loopback address with `auth=none`: there only the loopback's names are allowed, since the page of
    /// any site could point its own name there (DNS rebinding). The console takes the same names at loopback addresses
    /// and Unix sockets of `control`, as does the control API at a Unix socket without `control_key`
    allowed_hosts = "", live,
        Text("*, or a list of names such as push.example.org, *.example.org", |text| hosts::read_list(list(text)));

    /// Where the control API listens. A TCP address needs `control_key`. At `tls:` addresses it speaks HTTPS
    control = "none", fixed,
        Text("none, or a list of IP:PORT, localhost:PORT, tls:IP:PORT and unix:PATH", values::addresses);

    /// The key that control requests carry as `Authorization: Bearer`. A file is read at the start and at a reload
    control_key = "", live, Secret {
        allowed: "16 to 255 characters without spaces, file:PATH, or nothing",
        several: false,
        fits: |key| (16..=255).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic),
        set: |c, mut keys| c.control_key = keys.pop().unwrap_or_default(),
        all: |c| slice::from_mut(&mut c.control_key),
    };

    /// Whether the addresses of `control` also have the console, a page for people, at `/console`. It needs
    /// `control_key`, with which they log in
    console = "false", live, Flag();

    /// How long a login to the console lasts. All end when the hub does, or `control_key` changes
    console_session = "12h", live, Time(SECOND, 7 * DAY) in console_session_ms;
}

/// The paths in a list.
fn paths(text: &str) -> Option<Vec<String>> {
    let paths: Vec<_> = list(text).into_iter().filter(|path| !path.is_empty()).collect();
    paths.iter().all(|path| !path.contains('\0')).then_some(paths)
}

fn is_path(text: &str) -> bool {
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'?' && byte != b'#');
    text.starts_with('/') && text.len() <= 255 && plain
}
