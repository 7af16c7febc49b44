//! Listening sockets, bound before the server counts as started.

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

/// Connections that may wait to be accepted; the kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 65_535;

/// A bound address: one socket for each shard, or one for all.
#[derive(Debug)]
pub(crate) struct Bound {
    /// Where it can be reached.
    pub(crate) address: Address,
    sockets: Vec<Arc<OwnedFd>>,
    given: bool,
    _path: Option<SocketPath>,
}

/// A Unix socket's path, which goes with it.
#[derive(Debug)]
struct SocketPath {
    /// Absolute: the host may change its directory.
    path: PathBuf,
    /// The device and number of the file: another process may have put its own socket there since.
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
    /// Accepts nothing any more. The path stays until this is dropped.
    pub(crate) fn close(&mut self) {
        for socket in self.sockets.drain(..) {
            // A forked child may hold the listener too, and clients would wait there for ever. One that was given is
            // somebody else's, who may go on with it.
            if !self.given {
                socket::shutdown_both(&socket);
            }
        }
    }

    /// The socket of a shard.
    pub(crate) fn socket(&self, shard: usize) -> Arc<OwnedFd> {
        self.sockets[shard % self.sockets.len()].clone()
    }
}

/// A socket that listens already.
pub(crate) fn given(socket: &Arc<OwnedFd>) -> Result<Bound, Error> {
    let bound = || {
        let reference = SockRef::from(&**socket);
        reference.set_nonblocking(true)?;
        let local = reference.local_addr()?;
        let path = || Some(Address::Unix(local.as_pathname()?.into()));
        let address = local.as_socket().map(Address::Tcp).or_else(path);
        let address = address.ok_or_else(|| io::Error::other("neither an IP address nor a path"))?;
        // Whoever made the path takes it away.
        Ok(Bound { address, sockets: vec![socket.clone()], given: true, _path: None })
    };
    bound().map_err(|error: io::Error| Error::system("a listening socket that was given", &error))
}

/// Binds an address for so many shards.
pub(crate) fn bind(address: &Address, shards: usize) -> Result<Bound, Error> {
    let bound = match address {
        Address::Tcp(address) => bind_tcp(*address, shards),
        // Owner and group: who else may connect is for the directory to say.
        Address::Unix(path) => bind_unix(path, 0o660),
    };
    bound.map_err(|error| Error::system(format_args!("listen on {address}"), &error))
}

/// Binds a Unix socket whose file has this mode.
pub(crate) fn bind_path(path: &Path, mode: u32) -> Result<Bound, Error> {
    bind_unix(path, mode).map_err(|error| Error::system(format_args!("listen on unix:{}", path.display()), &error))
}

/// TCP: one socket for each shard, between which the kernel spreads clients (SO_REUSEPORT, socket(7)).
fn bind_tcp(address: SocketAddr, shards: usize) -> io::Result<Bound> {
    // SO_REUSEPORT from the start would let another process of the same user share the port unnoticed, and each of the
    // two would get half of the clients. So the first socket is bound and listens without it, which fails where anybody
    // has the port (binding alone would not: SO_REUSEADDR allows that until somebody listens), and takes part in the
    // sharing only then.
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
    Ok(Bound { address: Address::Tcp(chosen), sockets, given: false, _path: None })
}

fn tcp(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec().nonblocking(), None)?;
    // Or a restart would have to wait for the last connections to leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // Accepted connections inherit it (tcp(7)), which saves a system call for each.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A Unix socket: one for all shards. A path left over by a process that died is taken over, one in use is not.
fn bind_unix(path: &Path, mode: u32) -> io::Result<Bound> {
    if let Err(error) = UnixStream::connect(path) {
        // Connecting to a regular file is refused as well; that is somebody's data.
        let is_socket = || std::fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket());
        if error.kind() == io::ErrorKind::ConnectionRefused && is_socket() {
            std::fs::remove_file(path)?;
        }
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM.cloexec().nonblocking(), None)?;
    socket.bind(&socket2::SockAddr::unix(path)?)?;
    let guard = SocketPath::new(path)?;
    // Before anybody can connect.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    let address = Address::Unix(path.into());
    Ok(Bound { address, sockets: vec![Arc::new(socket.into())], given: false, _path: Some(guard) })
}
