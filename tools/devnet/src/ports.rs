//! Free ports of loopback.
//!
//! The roles must know each other's addresses before any of them listens (the master publishes
//! them all), so ports are found first and bound a moment later. Somebody else could take one in
//! between; then the role that wanted it says so at its start.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

/// `count` different addresses with free TCP ports.
pub(crate) fn tcp(count: usize) -> io::Result<Vec<SocketAddr>> {
    // All are held until all are found, so that none is given twice.
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<io::Result<_>>()?;
    listeners.iter().map(TcpListener::local_addr).collect()
}

/// `count` different addresses with free UDP ports.
pub(crate) fn udp(count: usize) -> io::Result<Vec<SocketAddr>> {
    let sockets: Vec<UdpSocket> =
        (0..count).map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))).collect::<io::Result<_>>()?;
    sockets.iter().map(UdpSocket::local_addr).collect()
}
