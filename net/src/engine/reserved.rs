//! Ports that are known before anybody listens on them.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

/// A free TCP port that stays free for who is told of it: a server that starts later, or that is
/// started again.
///
/// On Linux the port is bound and not listened on while this lives. The system gives it to nobody who
/// asks for any port, be it to listen or to connect; connections to it are refused; and a listener
/// with `SO_REUSEADDR`, as those of [`bind`](super::bind) and of tokio are, can take it. Elsewhere the
/// port was free a moment ago.
#[derive(Debug)]
pub struct ReservedPort {
    addr: SocketAddr,
    #[cfg(target_os = "linux")]
    _held: Socket,
}

impl ReservedPort {
    /// A port of this address.
    ///
    /// # Errors
    /// The address is none of this machine, or no port is free.
    pub fn on(ip: IpAddr) -> io::Result<Self> {
        let any = SocketAddr::new(ip, 0);
        let socket = Socket::new(Domain::for_address(any), Type::STREAM, Some(Protocol::TCP))?;
        // On Windows it would mean that others may take the port.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.bind(&any.into())?;
        let addr = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self {
            addr,
            #[cfg(target_os = "linux")]
            _held: socket,
        })
    }

    /// The address with the port.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use super::*;
    use crate::engine::bind;

    #[test]
    fn who_knows_the_port_gets_it_again_and_again_and_nobody_else() {
        let port = ReservedPort::on(Ipv4Addr::LOCALHOST.into()).unwrap();
        let addr = port.addr();
        for _ in 0..3 {
            let refused = TcpStream::connect(addr).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            let server = TcpListener::bind(addr).unwrap();
            let client = TcpStream::connect(addr).unwrap();
            // The server ends first: its side of the connection goes through TIME_WAIT.
            drop((server.accept().unwrap(), server));
            drop(client);
            let sockets = bind(addr, 2).unwrap();
            assert_eq!(bind(addr, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
            drop(sockets);
        }
        let second = ReservedPort::on(Ipv4Addr::LOCALHOST.into()).unwrap();
        assert_ne!(second.addr(), addr);
    }
}
