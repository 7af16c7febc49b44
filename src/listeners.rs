//! Listening sockets. They are bound before the start of a server returns.

use crate::config::Address;
use crate::error::Error;
use crate::sys::socket;
use socket2::{Domain, SockRef, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The number of connections that may wait to be accepted. The kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 65_535;

/// A bound address, with one socket for each shard or one for all.
#[derive(Debug)]
pub(crate) struct Bound {
    /// The address that clients connect to.
    pub(crate) address: Address,
    sockets: Vec<Arc<OwnedFd>>,
    given: bool,
    _path: Option<SocketPath>,
}

/// The path of a Unix socket. It is removed when this is dropped.
#[derive(Debug)]
struct SocketPath {
    /// Absolute: the host may change its directory.
    path: PathBuf,
    /// The device and inode of the file. Another process may have put its own socket at the path since, and that one
    /// must stay.
    file: (u64, u64),
}

impl SocketPath {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(SocketPath { path: std::path::absolute(path)?, file: file_number(path)? })
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        if file_number(&self.path).is_ok_and(|file| file == self.file) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn file_number(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|data| (data.dev(), data.ino()))
}

impl Bound {
    /// Stops accepting connections. The path stays until this is dropped.
    pub(crate) fn close(&mut self) {
        for socket in self.sockets.drain(..) {
            // A forked child may hold a copy of the listener, and clients would wait there for ever. A socket that was
            // given belongs to somebody else, who may go on with it.
            if !self.given {
                socket::shutdown_both(&socket);
            }
        }
    }

    /// Whether clients speak TLS here.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.address, Address::Tls(_))
    }

    /// The socket of a shard.
    pub(crate) fn socket(&self, shard: usize) -> Arc<OwnedFd> {
        self.sockets[shard % self.sockets.len()].clone()
    }
}

/// Takes a socket that listens already.
pub(crate) fn given(socket: &Arc<OwnedFd>) -> Result<Bound, Error> {
    let bound = || {
        let reference = SockRef::from(&**socket);
        reference.set_nonblocking(true)?;
        let local = reference.local_addr()?;
        let path = || Some(Address::Unix(local.as_pathname()?.into()));
        let address = local.as_socket().map(Address::Tcp).or_else(path);
        let address = address.ok_or_else(|| io::Error::other("neither an IP address nor a path"))?;
        // The process that made the path also removes it.
        Ok(Bound { address, sockets: vec![socket.clone()], given: true, _path: None })
    };
    bound().map_err(|error: io::Error| Error::system("use the given listening socket", &error))
}

/// Binds an address for this number of shards.
pub(crate) fn bind(address: &Address, shards: usize) -> Result<Bound, Error> {
    let bound = match address {
        Address::Tcp(address) => bind_tcp(*address, shards, Address::Tcp),
        // One thread does all handshakes.
        Address::Tls(address) => bind_tcp(*address, 1, Address::Tls),
        // The owner and the group may connect. The permissions of the directory can restrict that further.
        Address::Unix(path) => bind_unix(path, 0o660),
    };
    bound.map_err(|error| Error::system(format_args!("listen on {address}"), &error))
}

/// Binds a Unix socket whose file has this mode.
pub(crate) fn bind_path(path: &Path, mode: u32) -> Result<Bound, Error> {
    bind_unix(path, mode).map_err(|error| Error::system(format_args!("listen on unix:{}", path.display()), &error))
}

/// Binds a TCP address: one socket for each shard. The kernel spreads clients over them (SO_REUSEPORT, socket(7)).
fn bind_tcp(address: SocketAddr, shards: usize, kind: fn(SocketAddr) -> Address) -> io::Result<Bound> {
    // If every socket had SO_REUSEPORT from the start, another process of the same user could share the port unnoticed.
    // Each of the two processes would get half of the clients. So the first socket is bound and listens without it, and
    // this fails if anybody has the port. (Binding alone would not fail: SO_REUSEADDR allows it until somebody
    // listens.) Only then does the first socket get SO_REUSEPORT.
    let first = tcp(address, false)?;
    first.listen(BACKLOG)?;
    let chosen = first.local_addr()?.as_socket().ok_or_else(|| io::Error::other("no IP address"))?;
    let mut sockets = vec![first];
    if shards > 1 {
        sockets[0].set_reuse_port(true)?;
        for _ in 1..shards {
            let another = tcp(chosen, true)?;
            another.listen(BACKLOG)?;
            sockets.push(another);
        }
    }
    let sockets = sockets.into_iter().map(|socket| Arc::new(socket.into())).collect();
    Ok(Bound { address: kind(chosen), sockets, given: false, _path: None })
}

fn tcp(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec().nonblocking(), None)?;
    // Without this, a restart would have to wait until the last connections leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // Accepted connections inherit this (tcp(7)), which saves a system call for each.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Binds a Unix socket: one for all shards. A path that a dead process left behind is taken over. A path in use is an
/// error.
fn bind_unix(path: &Path, mode: u32) -> io::Result<Bound> {
    if let Err(error) = UnixStream::connect(path) {
        // A connection to a regular file is refused as well. Such a file is somebody's data and must stay.
        let is_socket = || std::fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket());
        if error.kind() == io::ErrorKind::ConnectionRefused && is_socket() {
            std::fs::remove_file(path)?;
        }
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM.cloexec().nonblocking(), None)?;
    socket.bind(&socket2::SockAddr::unix(path)?)?;
    let guard = SocketPath::new(path)?;
    // The mode is set before `listen`, so nobody can connect earlier.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    let address = Address::Unix(path.into());
    Ok(Bound { address, sockets: vec![Arc::new(socket.into())], given: false, _path: Some(guard) })
}
