//! Requests on the library's own listeners, before they are served: the name by which they address the server is
//! checked, and load balancers are answered.

use crate::config::{hosts, Auth};
use crate::http::refusal::Refusal;
use crate::shard::connection::conn::Flags;
use crate::shard::Shard;
use crate::sys::socket;
use bytes::Bytes;

impl Shard {
    /// Checks the name by which a client addresses the server. A request that a host hands over was routed by the
    /// host's own rules. A request without a name passes, since no browser leaves it out.
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
    /// One with TLS does not count: a page can't point its own name there, since there is no certificate for that.
    fn is_on_loopback(&self, index: u32) -> bool {
        let mut listeners = self.arrivals.listeners.iter().filter_map(|listener| listener.loopback).peekable();
        if listeners.peek().is_none() {
            return false;
        }
        let local = self.socket_of(index).and_then(socket::loopback_address);
        local.is_some_and(|local| listeners.any(|listener| listener == local))
    }

    /// Answers a load balancer; the connection ends with the answer.
    pub(in crate::shard) fn answer_health(&mut self, index: u32, head: bool) {
        let refusal = if self.drain.is_some() { Some(Refusal::draining()) } else { self.behind_its_log() };
        if let Some(refusal) = refusal {
            return self.refuse(index, &if head { refusal.without_body() } else { refusal }, "", false);
        }
        const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nCache-Control: no-store\r\n\
                            Content-Length: 3\r\nConnection: close\r\n\r\n";
        let body = if head { "" } else { "ok\n" };
        self.last_bytes(index, Bytes::from([HEAD, body].concat()));
    }

    /// Why new clients should go to another hub, if this one does not follow the log that it shares with others. The
    /// reason names servers behind this one, so strangers are not told it.
    fn behind_its_log(&self) -> Option<Refusal> {
        let status = &self.context.shared.as_ref()?.status;
        if !status.is_ready() {
            return Some(Refusal::unavailable("starting", "this hub has not read its log yet"));
        }
        status.failure()?;
        let message = "this hub does not follow its log at present; its log lines and the control API say why";
        Some(Refusal::unavailable("engine", message))
    }
}
