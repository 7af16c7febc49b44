//! A host changes its directory after its start. This test is alone in its process, since all threads share the
//! directory.

mod common;

use common::{eventually, Host};
use push::{Builder, Server};
use std::time::Duration;

#[test]
fn a_host_attaches_again_after_it_has_changed_its_directory() {
    let directory = std::env::temp_dir().join(format!("push-directory-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    std::env::set_current_dir(&directory).unwrap();
    let first = Host::start(&[("attach_listen", "unix:hub")]);
    let mut builder = Builder::default();
    builder.set("attach", "unix:hub").unwrap();
    builder.set("attach_timeout", "1m").unwrap();
    let host = Server::start(builder).unwrap();
    assert!(host.stats().is_ok());
    std::env::set_current_dir("/").unwrap();
    first.stop();
    let path = format!("unix:{}", directory.join("hub").display());
    let second = Host::start(&[("attach_listen", &path)]);
    eventually(|| host.stats().is_ok());
    host.stop(Duration::ZERO);
    second.stop();
    std::fs::remove_dir(&directory).unwrap();
}
