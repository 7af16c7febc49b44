use super::*;

#[test]
fn a_name_is_never_a_pattern() {
    for name in ["news.*", "*", "room.**"] {
        let error = Grant::new(None, &[name.into()], &[], 0, false, false).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("the grant's patterns"), "{error}");
    }
    let grant =
        Grant::new(None, &["a*b".into(), "news.".into()], &["x".into(), "me.*".into(), "c*d".into()], 0, true, false)
            .unwrap();
    let again = Grant::from_parts(&grant.parts()).unwrap();
    for grant in [grant, again] {
        for (channel, allowed) in [
            ("a*b", true),
            ("axb", false),
            ("news.", true),
            ("news.x", false),
            ("x", true),
            ("me.you", true),
            ("c*d", true),
            ("c*de", false),
        ] {
            assert_eq!((grant.allows(channel), grant.allows_publish(channel)), (allowed, allowed), "{channel}");
        }
    }
    let many: Vec<_> = (0..600).map(|n| n.to_string()).collect();
    assert!(Grant::new(None, &many, &many, 0, false, false).is_err(), "the bound is for both together");
}

#[test]
fn publishing_may_have_lists_of_its_own() {
    let list = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
    let (channels, patterns) = (list(&["news", "both"]), list(&["room.*"]));
    let (names, prefixes) = (list(&["cmd", "both", "a*b"]), list(&["typing.*"]));
    let terms = Terms { channels: &channels, patterns: &patterns, ..Terms::default() };
    let apart = Terms { publish_channels: &names, publish_patterns: &prefixes, ..terms };
    let all = list(&["*"]);
    for (terms, subscribes, publishes) in [
        (apart, ["news", "both", "room.1"].as_slice(), ["cmd", "both", "a*b", "typing.1"].as_slice()),
        // Both together: what either of them gives.
        (
            Terms { publish: true, ..apart },
            &["news", "both", "room.1"],
            &["cmd", "both", "a*b", "typing.1", "news", "room.1"],
        ),
        (Terms { publish_patterns: &all, ..terms }, &["news", "both", "room.1"], &["x", "cmd", "axb", "news"]),
        // Who may only publish may have no channel.
        (Terms { publish_channels: &names, ..Terms::default() }, &[], &["cmd", "both", "a*b"]),
    ] {
        let grant = Grant::of(&terms).unwrap();
        for grant in [&grant, &Grant::from_parts(&grant.parts()).unwrap()] {
            let every = ["news", "both", "room.1", "cmd", "a*b", "axb", "typing.1", "x"];
            let those = |may: &dyn Fn(&str) -> bool| every.into_iter().filter(|name| may(name)).count();
            assert!(subscribes.iter().all(|name| grant.allows(name)), "{terms:?}");
            assert_eq!(those(&|name| grant.allows(name)), subscribes.len(), "{terms:?}");
            assert!(publishes.iter().all(|name| grant.allows_publish(name)), "{terms:?}");
            if terms.publish_patterns != all {
                assert_eq!(those(&|name| grant.allows_publish(name)), publishes.len(), "{terms:?}");
            }
        }
    }
    let less = Grant::of(&Terms { publish: true, ..apart }).unwrap();
    let less = less.without(&ChannelPattern::parse("typing.*").unwrap());
    assert!(!less.allows_publish("typing.1") && less.allows_publish("cmd") && less.allows_publish("news"));
}

#[test]
fn the_lists_for_publishing_are_checked() {
    let list = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
    let refused = |terms: &Terms<'_>| Grant::of(terms).unwrap_err().to_string();
    let pattern = list(&["cmd.*"]);
    let error = refused(&Terms { publish_channels: &pattern, ..Terms::default() });
    assert!(error.contains("cmd.*") && error.contains("the grant's publish_patterns"), "{error}");
    for bad in [&list(&["a*b*"]), &list(&[""]), &list(&["a\n"])] {
        refused(&Terms { publish_patterns: bad, ..Terms::default() });
        refused(&Terms { publish_patterns: bad, patterns: &list(&["*"]), publish: true, ..Terms::default() });
    }
    let many: Vec<_> = (0..1001).map(|n| n.to_string()).collect();
    assert!(Grant::of(&Terms { publish_channels: &many[1..], channels: &many[1..], ..Terms::default() }).is_ok());
    let error = refused(&Terms { publish_channels: &many, ..Terms::default() });
    assert!(error.contains("at most 1000"), "{error}");
    // With the flag those that are granted count as well, since a hub of any version gets one list.
    let both = Terms { publish_channels: &many[..600], channels: &many[..600], publish: true, ..Terms::default() };
    refused(&both);
    assert!(Grant::of(&Terms { publish: false, ..both }).is_ok());
}

#[test]
fn channels_that_a_client_gets_at_once_are_granted_and_keep_their_order() {
    let list = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
    let (first, more) = (list(&["b", "a", "b"]), list(&["c", "a"]));
    let terms = Terms { subscribe: &first, channels: &more, publish: true, ..Terms::default() };
    let grant = Grant::of(&terms).unwrap();
    let every = Grant::of(&Terms { patterns: &list(&["*"]), ..terms }).unwrap();
    let less = every.without(&ChannelPattern::parse("a").unwrap());
    for grant in [&grant, &Grant::from_parts(&grant.parts()).unwrap(), &every, &less] {
        let names: Vec<_> = grant.at_once().iter().filter_map(ChannelPattern::name).collect();
        assert_eq!(names, ["b", "a"]);
        assert!(grant.allows("b") && grant.allows_publish("b") && grant.allows("c"));
    }
    assert!(!grant.allows("d") && every.allows("d") && !less.allows("a"));
    assert!(Grant::of(&Terms { subscribe: &list(&["a*"]), ..terms }).unwrap_err().to_string().contains("a*"));
    let many: Vec<_> = (0..1001).map(|n| n.to_string()).collect();
    assert!(Grant::of(&Terms { subscribe: &many[1..], ..Terms::default() }).is_ok());
    assert!(Grant::of(&Terms { subscribe: &many, ..Terms::default() }).is_err());
    assert!(Grant::of(&Terms { subscribe: &many[..999], ..terms }).is_err(), "the bound is for all together");
}

#[test]
fn parts_from_another_process_name_only_what_they_list() {
    let list = |names: &[&str]| Some(names.iter().map(|name| name.to_string()).collect::<Vec<_>>());
    let parts = |subscribe, at_once| Parts {
        user: None,
        info: None,
        subscribe,
        at_once,
        publish: Some(Vec::new()),
        expires_at: 0,
        keep_alive: false,
    };
    assert!(Grant::from_parts(&parts(list(&["a", "b*"]), 1)).is_ok());
    for (subscribe, at_once) in [(list(&["a", "b*"]), 2), (list(&["a"]), 2), (list(&["a", "a"]), 2), (None, 1)] {
        assert!(Grant::from_parts(&parts(subscribe.clone(), at_once)).is_err(), "{subscribe:?} {at_once}");
    }
}

#[test]
fn a_user_has_its_own_channel_and_no_other_users() {
    let list = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
    let all = list(&["*", "u*"]);
    let grant = Grant::of(&Terms { user: Some("a*b"), patterns: &all, ..Terms::default() }).unwrap();
    assert!(grant.check_names().is_ok(), "it may be everything, and then gives no channel of a user");
    for (channel, gives) in [("user:a*b", true), ("user:axb", false), ("user:", false), ("users", true), ("u", true)] {
        assert_eq!(grant.gives(channel, true), gives, "{channel}");
        assert!(grant.gives(channel, false), "{channel}: without the option it is a channel like any other");
    }
    for taken in ["user:a*b", "user:*", "*"] {
        let less = grant.without(&ChannelPattern::written(taken).unwrap());
        assert!(!less.gives("user:a*b", true), "{taken}");
        assert!(
            !grant.clone().without_taken_from(&less).gives("user:a*b", true),
            "another token does not bring it back"
        );
    }
    let nobody = Grant::of(&Terms { patterns: &all, ..Terms::default() }).unwrap();
    assert!(!nobody.gives("user:a*b", true) && !nobody.gives("user:", true));
    let empty = Grant::of(&Terms { user: Some("ada"), ..Terms::default() }).unwrap();
    assert!(empty.gives("user:ada", true) && !empty.gives("user:ada", false) && !empty.allows("user:ada"));
}

#[test]
fn a_grant_may_not_name_the_channels_of_users() {
    let names = ["user:ada".to_owned()];
    let patterns = ["ok".to_owned(), "user:*".to_owned()];
    let none = Terms::default();
    for terms in [
        Terms { subscribe: &names, ..none },
        Terms { channels: &names, ..none },
        Terms { patterns: &patterns, ..none },
        Terms { publish_channels: &names, ..none },
        Terms { publish_patterns: &patterns, ..none },
    ] {
        let grant = Grant::of(&terms).unwrap();
        let taken = grant.without(&ChannelPattern::written("x").unwrap());
        for grant in [grant, taken] {
            let error = grant.check_names().unwrap_err().to_string();
            assert!(error.contains("channel user:") && error.contains("option user_channel"), "{error}");
        }
    }
    let fine = ["users".to_owned(), "User:x".to_owned(), "x-user:".to_owned()];
    assert!(Grant::of(&Terms { channels: &fine, publish_patterns: &fine, ..none }).unwrap().check_names().is_ok());
}

#[test]
fn what_is_taken_away_is_not_allowed_and_the_rest_is() {
    let pattern = |text: &str| ChannelPattern::parse(text).unwrap();
    let none = Grant::new(Some("ann"), &[], &[], 0, true, false).unwrap();
    assert!(!none.allows("a") && !none.allows_publish("a"));
    let every = Grant::new(Some("ann"), &["a".into()], &["*".into()], 0, false, false).unwrap();
    assert!(every.allows("b") && !every.allows_publish("b"));
    let grant = Grant::new(Some("ann"), &["me".into()], &["news.*".into()], 0, true, false).unwrap();
    let less = grant.without(&pattern("news.sport")).without(&pattern("news.a*"));
    for (channel, allowed) in
        [("news.x", true), ("me", true), ("news.sport", false), ("news.art", false), ("you", false)]
    {
        assert_eq!((less.allows(channel), less.allows_publish(channel)), (allowed, allowed), "{channel}");
    }
    assert!(grant.allows("news.sport"), "others may share it");
    assert!(!Grant::open().without(&pattern("*")).allows("a"));
    let names = (0..=MAX_CHANNELS).map(|n| pattern(&format!("c{n}")));
    let none = names.fold(grant, |grant, name| grant.without(&name));
    assert!(!none.allows("me"), "at the bound the grant allows nothing more");
    assert_eq!(less.parts().subscribe, Some(vec![]));
    let new = Grant::new(Some("ann"), &[], &["*".into()], 0, true, false).unwrap();
    let next = new.clone().without_taken_from(&less);
    assert!(next.allows("you") && !next.allows("news.sport") && !next.allows_publish("news.art"));
    assert!(!new.without_taken_from(&none).allows("me"));
}

#[test]
fn a_pattern_is_allowed_where_all_that_it_fits_is() {
    let pattern = |text: &str| ChannelPattern::written(text).unwrap();
    let granted = |patterns: &[&str]| {
        let patterns: Vec<String> = patterns.iter().map(|text| text.to_string()).collect();
        Grant::of(&Terms { user: Some("ada"), patterns: &patterns, ..Terms::default() }).unwrap()
    };
    for (patterns, asked, allowed) in [
        (&["news.*"][..], "news.*", true),
        (&["news.*"], "news.a*", true),
        (&["news.*"], "news*", false),
        (&["news.*"], "*", false),
        (&["news.a", "news.b"], "news.*", false),
        (&["news.a", "news.b"], "news.a*", false),
        (&["news.a*", "news.*"], "news.ab*", true),
        (&["*"], "*", true),
        (&[], "*", false),
    ] {
        for users_have_channels in [true, false] {
            assert_eq!(granted(patterns).gives(asked, users_have_channels), allowed, "{patterns:?} {asked}");
        }
    }
    for (taken, lost) in [
        ("news.sport", ["*", "news.*", "news.s*"]),
        ("news.s*", ["*", "news.*", "news.sport*"]),
        ("*", ["*", "news.*", "x*"]),
    ] {
        let less = granted(&["*"]).without(&pattern(taken));
        lost.iter().for_each(|text| assert!(!less.allows(text), "{text} without {taken}"));
        assert!(!granted(&["news.*"]).without_taken_from(&less).allows("news.*"), "{taken}");
        assert_eq!(less.allows("news.a*"), taken != "*", "{taken}");
    }
    // No pattern fits the channel of a user, so none is lost with it.
    let less = granted(&["*"]).without(&pattern("user:ada"));
    assert!(less.gives("*", true) && less.gives("u*", true) && !less.gives("user:ada", true));
}

#[test]
fn a_grant_without_info_is_as_large_as_before_there_was_info() {
    assert_eq!(size_of::<Who>(), size_of::<Option<Arc<str>>>());
    // An idle client has one, perhaps for itself; look twice before you raise it.
    assert!(size_of::<Grant>() <= 88, "{}", size_of::<Grant>());
}

#[test]
fn a_user_may_have_an_info() {
    let channels = ["news".to_owned()];
    let terms = |user, info| Terms { user, info, channels: &channels, ..Terms::default() };
    let known = |grant: &Grant| (grant.user().map(|user| user.to_string()), grant.info().map(str::to_owned));
    for (user, info) in [
        (None, None),
        (Some("ada"), None),
        (Some("ada"), Some("Ada")),
        (Some("ada"), Some("{\"name\":\"\\u0041da\",\"\u{fc}\":\"\u{1F4A9}\"}")),
        (Some("ada"), Some(&*"\u{fc}".repeat(MAX_INFO / 2))),
    ] {
        let grant = Grant::of(&terms(user, info)).unwrap();
        let expected = (user.map(str::to_owned), info.map(str::to_owned));
        assert_eq!(known(&grant), expected);
        assert_eq!(Grant::from_parts(&grant.parts()).unwrap(), grant);
        // It stays with the user, whatever is taken.
        let less = grant.without(&ChannelPattern::everything());
        assert_eq!(known(&less), expected);
        assert_eq!(known(&grant.without_taken_from(&less).of_host(7)), expected);
    }
}

#[test]
fn clients_with_another_info_do_not_share_a_grant() {
    let mut latest = Latest::default();
    let mut share = |info| latest.share(Grant::of(&Terms { user: Some("ada"), info, ..Terms::default() }).unwrap());
    let one = share(Some("a"));
    assert!(Arc::ptr_eq(&one, &share(Some("a"))));
    let other = share(Some("b"));
    assert_eq!((one.info(), other.info(), share(None).info()), (Some("a"), Some("b"), None));
}

#[test]
fn an_info_is_checked_and_needs_a_user() {
    let long = "x".repeat(MAX_INFO + 1);
    for (user, info, says) in [
        (None, "a", "info: it is about a user, and the grant has none"),
        (Some("ada"), "", "info: empty; 1 to 1024 bytes are allowed"),
        (Some("ada"), &*long, "info: 1025 bytes; at most 1024 are allowed"),
        (Some("ada"), "a\nb", "info: control characters are not allowed"),
        (Some("ada"), "a\0", "info: control characters are not allowed"),
        (Some("ada"), "\u{85}", "info: control characters are not allowed"),
        (Some(""), "a", "user: empty"),
    ] {
        let of_host = Grant::of(&Terms { user, info: Some(info), ..Terms::default() });
        for refused in [of_host, Grant::from_lists(user, Some(info), &[], &[], 1)] {
            let error = refused.unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
