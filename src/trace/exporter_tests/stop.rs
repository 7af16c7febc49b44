//! How the exporter ends.

use super::*;

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_stop_exports_what_is_left_and_what_is_under_way() {
    let (_listener, world, mut stream) = World::connected(PATIENCE, 100);
    let mut got = take(&mut stream);
    world.await_outcomes([1, 0, 0]);
    world.publish();
    // Its shard has ended.
    world.tracer.begin(None, "lost", 5).unwrap().place(8, None, 1, 1);
    let tracer = world.tracer.clone();
    let collector = std::thread::spawn(move || {
        // It has answered before, so it may be slow now.
        std::thread::sleep(Duration::from_secs(2));
        got.clear();
        while let Some(body) = request(&mut stream) {
            got.extend(body);
            answer(&mut stream, "200 OK", b"");
        }
        got
    });
    let lines = world.stop(PATIENCE);
    let got = collector.join().unwrap();
    assert!(memchr::memmem::find(&got, b"e-7").is_some() && memchr::memmem::find(&got, b"push.unfinished").is_some());
    assert_eq!(tracer.outcomes().map(|(_, count)| count), [3, 0, 0], "{lines:?}");
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_collector_that_is_not_there_is_named_once_and_a_stop_does_not_wait_for_it() {
    let port = free_port();
    let world = World::new(port, PATIENCE, 100);
    world.publish();
    let line = world.lines.recv_timeout(PATIENCE).unwrap().text;
    assert!(
        line.contains("can't be reached: ") && line.contains(&format!("http://127.0.0.1:{port}/v1/traces")),
        "{line}"
    );
    world.publish();
    let began = Instant::now();
    let tracer = world.tracer.clone();
    let mut lines = world.stop(PATIENCE * 10);
    assert!(began.elapsed() < PATIENCE);
    // On a slow machine the end may come before the last try has failed.
    lines.retain(|line| !line.ends_with("it has not answered"));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(tracer.outcomes()[2], ("dropped", 2));
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_retry_after_of_any_size_is_no_panic_and_no_spin_at_a_stop() {
    for (retry, most) in [("0", 200), ("18446744073709551615", 2), ("99999999999999999999", 200)] {
        let (listener, world) = World::with_message(PATIENCE, 100);
        let collector = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut requests = 0;
            while request(&mut stream).is_some() {
                answer(&mut stream, &format!("503 Service Unavailable\r\nRetry-After: {retry}"), b"");
                requests += 1;
            }
            requests
        });
        let line = world.lines.recv_timeout(PATIENCE).unwrap().text;
        assert!(line.contains("503 Service Unavailable; the hub tries again"), "{retry}: {line}");
        let lines = world.stop(Duration::from_secs(3));
        assert!(lines.iter().any(|line| line.ends_with("the hub ends; 1 spans are dropped")), "{retry}: {lines:?}");
        assert!(!lines.iter().any(|line| line.contains("bug")), "{retry}: {lines:?}");
        let requests = collector.join().unwrap();
        assert!((1..=most).contains(&requests), "{retry}: {requests}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_stop_does_not_wait_long_for_a_collector_that_was_away() {
    let (port, _held) = full();
    let world = World::new(port, Duration::from_millis(300), 100);
    world.publish();
    let line = world.lines.recv_timeout(PATIENCE).unwrap().text;
    assert!(line.contains("has not answered for 300 ms; the hub tries again"), "{line}");
    world.exporter.set_timeout(PATIENCE * 10);
    world.stop_dropping(PATIENCE * 10, 1);
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_stop_does_not_wait_long_for_a_collector_that_was_never_reached() {
    let ((full, _held), (_listener, silent)) = (full(), listener());
    for port in [full, silent] {
        let world = World::new(port, PATIENCE * 10, 100);
        world.publish();
        world.stop_dropping(PATIENCE * 10, 1);
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_collector_that_has_answered_and_hangs_has_the_time_of_the_stop_and_no_more() {
    let (_listener, world, mut stream) = World::connected(PATIENCE * 10, 100);
    take(&mut stream);
    world.await_outcomes([1, 0, 0]);
    world.publish();
    request(&mut stream).unwrap();
    world.publish();
    world.stop_dropping(Duration::from_millis(100), 2);
}
