//! A proxy between attached hosts and a hub, which loses bytes and connections as it is told.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Passes bytes (no descriptors) between a host and a hub until it is told to cut all connections.
pub struct Proxy {
    /// If it is set, bytes that come are dropped.
    pub swallows: Arc<AtomicBool>,
    /// If it is set, bytes that come from the hub are dropped.
    pub swallows_answers: Arc<AtomicBool>,
    pub swallowed: Arc<AtomicUsize>,
    /// If it is set, no host gets through.
    pub is_closed: Arc<AtomicBool>,
    open: Arc<Mutex<(Vec<UnixStream>, usize)>>,
    /// The path of its socket, which is removed at the end.
    path: String,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Proxy {
    pub fn start(listen: &str, to: &str) -> Self {
        let listener = UnixListener::bind(listen).unwrap();
        let open: Arc<Mutex<(Vec<UnixStream>, usize)>> = Default::default();
        let (shared, to) = (open.clone(), to.to_owned());
        let (swallows, swallowed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let [is_closed, swallows_answers] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let proxy = Proxy {
            swallows: swallows.clone(),
            swallows_answers: swallows_answers.clone(),
            swallowed: swallowed.clone(),
            is_closed: is_closed.clone(),
            open,
            path: listen.to_owned(),
        };
        std::thread::spawn(move || {
            for host in listener.incoming().map_while(Result::ok) {
                if is_closed.load(Ordering::Relaxed) {
                    continue;
                }
                let Ok(hub) = UnixStream::connect(&to) else { continue };
                // Nothing passes before a cut would find it.
                shared.lock().unwrap().0.extend([&host, &hub].map(|end| end.try_clone().unwrap()));
                for (mut from, mut into, also) in [(&host, &hub, &swallows), (&hub, &host, &swallows_answers)]
                    .map(|(from, into, also)| (from.try_clone().unwrap(), into.try_clone().unwrap(), also.clone()))
                {
                    let (swallows, swallowed) = (swallows.clone(), swallowed.clone());
                    std::thread::spawn(move || {
                        let mut part = [0; 1000];
                        while let Ok(len @ 1..) = from.read(&mut part) {
                            if swallows.load(Ordering::Relaxed) || also.load(Ordering::Relaxed) {
                                swallowed.fetch_add(len, Ordering::Relaxed);
                                continue;
                            }
                            if into.write_all(&part[..len]).is_err() {
                                break;
                            }
                        }
                        let _ = into.shutdown(std::net::Shutdown::Both);
                        let _ = from.shutdown(std::net::Shutdown::Both);
                    });
                }
            }
        });
        proxy
    }

    pub fn cut(&self) {
        let mut open = self.open.lock().unwrap();
        open.1 += usize::from(!open.0.is_empty());
        for stream in open.0.drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    pub fn is_open(&self) -> bool {
        !self.open.lock().unwrap().0.is_empty()
    }

    pub fn cuts(&self) -> usize {
        self.open.lock().unwrap().1
    }
}
