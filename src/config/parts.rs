//! Options for parts that a build may lack, or that need further options.

use super::{Address, Config};
use crate::error::{Error, Kind};

impl Config {
    pub(super) fn check_console(&self) -> Result<(), Error> {
        let why = match () {
            () if !self.console => return Ok(()),
            () if cfg!(not(feature = "console")) => {
                "this build of libpush has no console (the cargo feature console is off), so the option console is \
                 not allowed"
            }
            () if self.control.is_empty() => {
                "option console: it is served at the addresses of the option control, and there is none"
            }
            () if self.control_key.is_empty() => {
                "option console: it needs the option control_key, with which people log in"
            }
            () => return Ok(()),
        };
        Err(Error::new(Kind::Config, why))
    }

    pub(super) fn check_trace(&self) -> Result<(), Error> {
        let why = match &self.trace {
            None => return Ok(()),
            Some(_) if cfg!(not(feature = "trace")) => {
                "this build of libpush exports no spans (the cargo feature trace is off), so the option trace is not \
                 allowed"
            }
            Some(_) if self.attach.is_some() => "options attach and trace: the hub exports the spans; set trace there",
            Some(_) => return Ok(()),
        };
        Err(Error::new(Kind::Config, why))
    }

    /// Whether an address is one for TLS.
    pub(crate) fn listens_with_tls(&self) -> bool {
        self.listen.iter().chain(&self.control).any(|address| matches!(address, Address::Tls(_)))
    }

    pub(super) fn check_tls(&self) -> Result<(), Error> {
        let wrong = |text: &'static str| Err(Error::new(Kind::Config, text));
        let certificates = [&self.tls_certificate, &self.tls_key].iter().any(|files| !files.is_empty());
        let others = !self.tls_client_ca.is_empty() || self.tls_kernel;
        if cfg!(not(feature = "tls")) && (self.listens_with_tls() || certificates || others) {
            return wrong(
                "this build of libpush has no TLS (the cargo feature tls is off), so the options tls_certificate, \
                 tls_key, tls_client_ca and tls_kernel, and addresses that begin with tls:, are not allowed",
            );
        }
        // Its clients would need no certificate, against what the operator wants.
        let mut doors = self.control.iter().filter(|address| !matches!(address, Address::Unix(_))).peekable();
        let all_secure = doors.peek().is_some() && doors.all(|address| matches!(address, Address::Tls(_)));
        if !self.tls_client_ca.is_empty() && !all_secure {
            return wrong(
                "option tls_client_ca: it needs an address of control that begins with tls:, and no other TCP",
            );
        }
        if !self.listens_with_tls() {
            return Ok(());
        }
        if self.tls_certificate.is_empty() {
            return wrong("an address that begins with tls: needs the options tls_certificate and tls_key");
        }
        if self.tls_certificate.len() != self.tls_key.len() {
            return wrong("options tls_certificate and tls_key: each certificate needs its key, in the same order");
        }
        Ok(())
    }
}
