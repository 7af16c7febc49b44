//! Grants, as hubs of all versions read them.

use super::*;
use crate::grant::{Terms, MAX_INFO};

pub(super) fn grant_that_subscribes() -> Grant {
    let names = ["news".to_owned(), "sport".to_owned()];
    Grant::of(&Terms { subscribe: &names, keep_alive: true, ..Terms::default() }).unwrap()
}

pub(super) fn grant_that_publishes_elsewhere() -> Grant {
    let (reads, writes) = (["news".to_owned()], ["cmd".to_owned(), "typing.*".to_owned()]);
    Grant::of(&Terms { channels: &reads, publish_patterns: &writes, ..Terms::default() }).unwrap()
}

pub(super) fn grant_that_informs() -> Grant {
    Grant::of(&Terms { user: Some("ann"), info: Some("Ann"), ..Terms::default() }).unwrap()
}

pub(super) fn grant_that_informs_and_subscribes() -> Grant {
    let names = ["news".to_owned()];
    Grant::of(&Terms { user: Some("ann"), info: Some("Ann"), subscribe: &names, ..Terms::default() }).unwrap()
}

#[test]
fn a_grant_is_written_as_in_all_versions_unless_it_subscribes() {
    for (grant, since, end) in [(grant(), OLDEST, &[1][..]), (grant_that_subscribes(), SUBSCRIBES, &[3, 2, 0])] {
        for frame in [FromHost::Allow { request: 5, grant: grant.clone() }, FromHost::Renew { connection: 5, grant }] {
            assert_eq!(frame.since(), since);
            assert!(written(|into| frame.write(into)).ends_with(end), "{frame:?}");
        }
    }
    assert_eq!(FromHost::Adopt { grant: Some(grant_that_subscribes()), head: b"" }.since(), SUBSCRIBES);
}

#[test]
fn a_hub_of_any_version_knows_lists_for_publishing() {
    let frame = FromHost::Allow { request: 5, grant: grant_that_publishes_elsewhere() };
    assert_eq!(frame.since(), OLDEST);
    // No user; one name; a name and a pattern; no end; no flags.
    let lists = [&[0, 1, 1, 0, 4, 0][..], b"news", &[1, 2, 0, 3, 0], b"cmd", &[8, 0], b"typing.*", &[0; 9]].concat();
    assert!(written(|into| frame.write(into)).ends_with(&lists), "as in all versions");
}

#[test]
fn only_an_info_needs_a_hub_that_knows_it() {
    for (grant, end) in [
        (grant_that_informs(), &b"\x04\x03\0Ann"[..]),
        (grant_that_informs_and_subscribes(), &b"\x06\x01\0\x03\0Ann"[..]),
    ] {
        for (frame, behind) in [
            (FromHost::Allow { request: 5, grant: grant.clone() }, &b""[..]),
            (FromHost::Renew { connection: 5, grant: grant.clone() }, b""),
            (FromHost::Adopt { grant: Some(grant), head: b"" }, &[0; 4]),
        ] {
            assert_eq!(frame.since(), INFORMS);
            assert!(written(|into| frame.write(into)).ends_with(&[end, behind].concat()), "{frame:?}");
        }
    }
}

#[test]
fn an_info_is_checked_again_when_it_comes_from_another_process() {
    let user = [&[1, 3, 0][..], b"ann"].concat();
    let read = |user: &[u8], info: &[u8]| {
        let grant = [user, &[1, 0, 0, 1, 0, 0], &[0; 8], &[4], &(info.len() as u16).to_le_bytes(), info].concat();
        FromHost::read(&[&[8][..], &[0; 8], &grant].concat()).map(drop)
    };
    let longest = vec![b'x'; MAX_INFO];
    assert_eq!((read(&user, b"Ann"), read(&user, &longest)), (Ok(()), Ok(())));
    let long = vec![b'x'; MAX_INFO + 1];
    for (user, info) in [(&user[..], &b""[..]), (&user, b"a\n"), (&user, &long), (&[0], b"Ann")] {
        assert_eq!(read(user, info), Err(Malformed("a grant that is not allowed")), "{info:?}");
    }
    assert_eq!(read(&user, b"\xff"), Err(Malformed("a text that is not UTF-8")));
}
