//! Free ports of loopback.
//!
//! The roles must know each other's addresses before any of them listens (the master publishes
//! them all), so ports are found first and bound a moment later, and again after each restart.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use packetcrypt_net::engine::ReservedPort;

/// `count` different free TCP ports; they are kept for the roles as long as the values live.
pub(crate) fn tcp(count: usize) -> io::Result<Vec<ReservedPort>> {
    (0..count).map(|_| ReservedPort::on(Ipv4Addr::LOCALHOST.into())).collect()
}

/// `count` different addresses with free UDP ports. Somebody else could take one before its role
/// does; then that says so at its start.
pub(crate) fn udp(count: usize) -> io::Result<Vec<SocketAddr>> {
    let sockets: Vec<UdpSocket> =
        (0..count).map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))).collect::<io::Result<_>>()?;
    sockets.iter().map(UdpSocket::local_addr).collect()
}
