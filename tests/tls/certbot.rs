//! The hook of `packaging/` that gives pushd the files of certbot.

use crate::client::{address, config, Client, VERSIONS};
use crate::{start_with, Pair};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn the_hook_copies_renewed_files_for_the_group_and_reloads() {
    let folder = Folder(std::env::temp_dir().join(format!("push-certbot-{}", std::process::id())));
    let (live, copies, programs) = (folder.0.join("live/push.example.org"), folder.0.join("etc"), folder.0.join("bin"));
    [&live, &programs].into_iter().for_each(|folder| fs::create_dir_all(folder).unwrap());
    let systemctl = programs.join("systemctl");
    // It notes when it was called, and finds the copies there.
    fs::write(&systemctl, "#!/bin/sh\necho \"$@\" >>\"$CALLS\"; cat \"$PUSHD_TLS\"/*/privkey.pem >>\"$CALLS\"\n")
        .unwrap();
    fs::set_permissions(&systemctl, Permissions::from_mode(0o755)).unwrap();
    let calls = folder.0.join("calls");
    let group = String::from_utf8(Command::new("id").arg("-g").output().unwrap().stdout).unwrap();
    let mut path = programs.into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap());
    for _ in 0..2 {
        let pair = Pair::new(&["localhost"]);
        for (from, name) in [(&pair.certificate, "fullchain.pem"), (&pair.key, "privkey.pem")] {
            fs::copy(from, live.join(name)).unwrap();
            fs::set_permissions(live.join(name), Permissions::from_mode(0o600)).unwrap();
        }
        let _ = fs::remove_file(&calls);
        let hook = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/certbot-hook");
        let mut hook = Command::new(hook);
        hook.env("PATH", &path).env("CALLS", &calls).env("PUSHD_TLS", &copies).env("PUSHD_GROUP", group.trim());
        assert!(hook.env("RENEWED_LINEAGE", &live).status().unwrap().success());
        let (copy, key) = (copies.join("push.example.org"), fs::read_to_string(&pair.key).unwrap());
        assert_eq!(fs::read_to_string(&calls).unwrap(), format!("try-reload-or-restart pushd\n{key}"));
        let (chain, private) = (copy.join("fullchain.pem"), copy.join("privkey.pem"));
        assert_eq!((mode(&copy), mode(&chain), mode(&private)), (0o750, 0o640, 0o640));
        // The options of the page, with these files.
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let (host, _) = start_with(&pair, &[("tls_certificate", &text(&chain)), ("tls_key", &text(&private))]);
        let mut client = Client::connect(&address(&host), "localhost", &Arc::new(config(&pair, None, &VERSIONS)));
        client.tls.conn.complete_io(&mut client.tls.sock).unwrap();
        host.stop();
    }
}
