//! The socket, and datagrams many at a time.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Type};

use super::{Socket, SprayerError, SprayerOptions, THREAD_TICK_MS};
use crate::limits::SPRAYER_RECEIVE_BUFFER_BYTES;

/// Opens the socket as the options ask: address, buffers, group.
pub(super) fn open(options: &SprayerOptions) -> Result<Socket, SprayerError> {
    let bind = options.bind;
    if let Some(group) = options.multicast
        && (!group.is_multicast() || !bind.is_ipv4())
    {
        return Err(SprayerError::NotMulticast { group, bind });
    }
    open_checked(options).map_err(|cause| SprayerError::Socket { bind, cause })
}

fn open_checked(options: &SprayerOptions) -> io::Result<Socket> {
    let bind = options.bind;
    let socket = socket2::Socket::new(Domain::for_address(bind), Type::DGRAM, Some(Protocol::UDP))?;
    let wanted = SPRAYER_RECEIVE_BUFFER_BYTES;
    let forced = force_receive_buffer(&socket, wanted);
    if forced.is_err() {
        // Without the privilege the system gives what its setting allows.
        socket.set_recv_buffer_size(wanted)?;
    }
    let given = socket.recv_buffer_size()?;
    if given < wanted {
        tracing::warn!(
            "sprayer {bind}: receive buffer of {given} bytes instead of {wanted}: \
             sysctl -w net.core.rmem_max={wanted}"
        );
    }
    socket.bind(&bind.into())?;
    if let Some(group) = options.multicast {
        let interface = match bind.ip() {
            IpAddr::V4(ip) => ip,
            IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        };
        socket.join_multicast_v4(&group, &interface)?;
    }
    // A thread that waits here still sees the shutdown.
    socket.set_read_timeout(Some(Duration::from_millis(THREAD_TICK_MS)))?;
    socket.set_write_timeout(Some(Duration::from_millis(THREAD_TICK_MS)))?;
    Ok(socket.into())
}

#[cfg(target_os = "linux")]
fn force_receive_buffer(socket: &socket2::Socket, bytes: usize) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let value = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    let len = libc::socklen_t::try_from(size_of_val(&value)).unwrap_or(0);
    // SAFETY: the kernel reads `len` bytes at the address of `value`, which lives until after the
    // call; the descriptor belongs to `socket`.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const value).cast(),
            len,
        )
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(target_os = "linux"))]
fn force_receive_buffer(_socket: &socket2::Socket, _bytes: usize) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Whether datagrams to `to` stay on this host's own address, where large ones are no risk.
pub(super) fn is_own_address(local: SocketAddr, to: SocketAddr) -> bool {
    local.ip() == to.ip()
}
