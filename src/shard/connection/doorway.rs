//! What is seen to before a request on the library's own listeners is served: the name by which it addresses the server,
//! and the questions of load balancers.

use crate::config::{hosts, Auth};
use crate::http::refusal::Refusal;
use crate::shard::connection::conn::Flags;
use crate::shard::Shard;
use crate::sys::socket;
use bytes::Bytes;

impl Shard {
    /// Checks the name by which a client addresses the server. What a host hands over, it has routed by its own rules;
    /// and no browser leaves the name out.
    pub(in crate::shard) fn check_host(&self, index: u32, host: &str) -> Result<(), Refusal> {
        let config = self.config();
        let open = config.auth == Auth::None;
        if host.is_empty()
            || (config.allowed_hosts.is_empty() && !open)
            || self.conns[index as usize].is(Flags::ADOPTED)
        {
            return Ok(());
        }
        let passes = hosts::is_loopback(host)
            || hosts::is_listed(host, &config.allowed_hosts)
            || (config.allowed_hosts.is_empty() && !self.is_on_loopback(index));
        if passes {
            return Ok(());
        }
        let message = format!("the server may not be addressed as {host:.80}; the option allowed_hosts can allow it");
        Err(Refusal::forbidden("host", message))
    }

    /// Whether a connection came through a listener on the loopback. Asked only for names that are not the loopback's.
    fn is_on_loopback(&self, index: u32) -> bool {
        let mut listeners = self.listeners.iter().filter_map(|listener| listener.loopback).peekable();
        if listeners.peek().is_none() {
            return false;
        }
        let local = socket::loopback_address(&self.conns[index as usize].fd);
        local.is_some_and(|local| listeners.any(|listener| listener == local))
    }

    /// Answers a load balancer; the connection ends with the answer.
    pub(in crate::shard) fn answer_health(&mut self, index: u32, head: bool) {
        if self.drain.is_some() {
            let refusal = Refusal::draining();
            return self.refuse(index, &if head { refusal.without_body() } else { refusal }, "", false);
        }
        const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nCache-Control: no-store\r\n\
                            Content-Length: 3\r\nConnection: close\r\n\r\n";
        let body = if head { "" } else { "ok\n" };
        self.last_bytes(index, Bytes::from([HEAD, body].concat()));
    }
}
