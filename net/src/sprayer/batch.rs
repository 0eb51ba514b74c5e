//! Many datagrams in one system call: `sendmmsg` with UDP segmentation, `recvmmsg` with UDP
//! receive coalescing.
//!
//! A message of the kernel carries up to [`SPRAYER_DATAGRAM_RECORDS_MAX`] records. With
//! segmentation (GSO) the kernel, or the network card, cuts it into datagrams of some records each;
//! without, it is one datagram. Received messages may hold several datagrams of one length (GRO).

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use packetcrypt_proto::datagram::RECORD_BYTES;
use socket2::SockAddr;

use super::AnnouncementBytes;
use crate::limits::{SPRAYER_CHUNK_RECORDS_MAX, SPRAYER_DATAGRAM_RECORDS_MAX};

/// Messages received in one call.
const RECEIVED_MESSAGES_MAX: usize = 16;
/// Larger than any datagram of UDP, also of several coalesced ones.
const MESSAGE_BYTES: usize = 64 << 10;
/// Room for one control message that holds a number.
const CONTROL_WORDS: usize = 4;

/// How a message becomes datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// It is one, of at most this many records.
    Whole(usize),
    /// The kernel cuts it into datagrams of this many records.
    Segments(usize),
}

impl Cut {
    /// The records of a message of the kernel.
    pub(super) fn records_per_message(self) -> usize {
        let records = match self {
            Cut::Whole(records) => records,
            // A whole number of datagrams, so that only the last one of a chunk is shorter.
            Cut::Segments(records) => SPRAYER_DATAGRAM_RECORDS_MAX / records.max(1) * records,
        };
        records.clamp(1, SPRAYER_DATAGRAM_RECORDS_MAX)
    }
}

/// One number beside a message, in the form of the kernel.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u64; CONTROL_WORDS]);

/// Whether the kernel can cut messages into datagrams.
pub(super) fn can_segment(socket: &UdpSocket) -> bool {
    option_int(socket, libc::UDP_SEGMENT, 0).is_ok()
}

/// Asks the kernel to hand over several datagrams at a time; without it they come one by one.
pub(super) fn coalesce(socket: &UdpSocket) -> bool {
    option_int(socket, libc::UDP_GRO, 1).is_ok()
}

fn option_int(socket: &UdpSocket, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of_val(&value)).unwrap_or(0);
    // SAFETY: the kernel reads `len` bytes at the address of `value`, which lives until after the
    // call; the descriptor belongs to `socket`.
    let status = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_UDP, name, (&raw const value).cast(), len)
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends records from where they lie, numbered from `sequence`. Returns how many were sent; an error
/// is about the first message that was not.
pub(super) fn send(
    socket: &UdpSocket,
    to: SocketAddr,
    records: &[AnnouncementBytes],
    sequence: u64,
    cut: Cut,
) -> (usize, io::Result<()>) {
    debug_assert!(records.len() <= SPRAYER_CHUNK_RECORDS_MAX);
    let per_message = cut.records_per_message();
    let numbers: Vec<[u8; 8]> = (sequence..).take(records.len()).map(u64::to_le_bytes).collect();
    let part = |bytes: &[u8]| libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let mut parts: Vec<libc::iovec> = numbers
        .iter()
        .zip(records)
        .flat_map(|(number, record)| [part(number), part(record)])
        .collect();
    let address = SockAddr::from(to);
    let mut control = match cut {
        Cut::Whole(_) => None,
        Cut::Segments(records) => Some(segment_control(records * RECORD_BYTES)),
    };
    let mut messages: Vec<libc::mmsghdr> = parts
        .chunks_mut(2 * per_message)
        .map(|parts| {
            let mut message = empty_message();
            message.msg_hdr.msg_name = address.as_ptr().cast_mut().cast();
            message.msg_hdr.msg_namelen = address.len();
            message.msg_hdr.msg_iov = parts.as_mut_ptr();
            message.msg_hdr.msg_iovlen = parts.len() as _;
            if let Some(control) = &mut control {
                message.msg_hdr.msg_control = (&raw mut *control).cast();
                message.msg_hdr.msg_controllen = control_len() as _;
            }
            message
        })
        .collect();
    let count = libc::c_uint::try_from(messages.len()).unwrap_or(0);
    // SAFETY: the kernel reads `count` messages and what they point to (address, parts, records,
    // control), all of which lives until after the call, and writes their `msg_len`.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
    match usize::try_from(sent) {
        Ok(sent) => ((sent * per_message).min(records.len()), Ok(())),
        Err(_) => (0, Err(io::Error::last_os_error())),
    }
}

/// The control message that asks for segments of this length.
fn segment_control(bytes: usize) -> Control {
    let mut control = Control([0; CONTROL_WORDS]);
    let head = (&raw mut control).cast::<libc::cmsghdr>();
    // A segment is at most a datagram long: 16 bits hold it.
    let bytes = u16::try_from(bytes).unwrap_or(u16::MAX);
    // SAFETY: `Control` is aligned for a `cmsghdr` and has room for one with two bytes of data
    // (asserted below); `CMSG_DATA` points behind the head, into it.
    unsafe {
        (*head).cmsg_level = libc::SOL_UDP;
        (*head).cmsg_type = libc::UDP_SEGMENT;
        (*head).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as libc::c_uint) as _;
        libc::CMSG_DATA(head).cast::<u16>().write_unaligned(bytes);
    }
    control
}

fn control_len() -> usize {
    // SAFETY: it only computes.
    unsafe { libc::CMSG_SPACE(size_of::<u16>() as libc::c_uint) as usize }
}

fn empty_message() -> libc::mmsghdr {
    // SAFETY: all of its fields may be zero.
    unsafe { std::mem::zeroed() }
}

/// Buffers for messages that are received together: 1 MiB.
pub(super) struct Receiver {
    buffers: Vec<u8>,
    addresses: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
}

impl Receiver {
    pub(super) fn new() -> Self {
        // SAFETY: all bytes of an address may be zero.
        let address: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        Self {
            buffers: vec![0; RECEIVED_MESSAGES_MAX * MESSAGE_BYTES],
            addresses: vec![address; RECEIVED_MESSAGES_MAX],
            controls: vec![Control([0; CONTROL_WORDS]); RECEIVED_MESSAGES_MAX],
        }
    }

    /// Waits for a message, takes those that wait beside it, and shows each datagram.
    pub(super) fn receive(
        &mut self,
        socket: &UdpSocket,
        mut datagram: impl FnMut(&[u8], SocketAddr),
    ) -> io::Result<()> {
        let mut parts: Vec<libc::iovec> = self
            .buffers
            .chunks_mut(MESSAGE_BYTES)
            .map(|buffer| libc::iovec {
                iov_base: buffer.as_mut_ptr().cast(),
                iov_len: buffer.len(),
            })
            .collect();
        let places = parts.iter_mut().zip(&mut self.addresses).zip(&mut self.controls);
        let mut messages: Vec<libc::mmsghdr> = places
            .map(|((part, address), control)| {
                let mut message = empty_message();
                message.msg_hdr.msg_name = (&raw mut *address).cast();
                message.msg_hdr.msg_namelen = size_of_val(address) as _;
                message.msg_hdr.msg_iov = part;
                message.msg_hdr.msg_iovlen = 1;
                message.msg_hdr.msg_control = (&raw mut *control).cast();
                message.msg_hdr.msg_controllen = size_of_val(control) as _;
                message
            })
            .collect();
        let count = RECEIVED_MESSAGES_MAX as libc::c_uint;
        // SAFETY: the kernel writes into `count` messages and the buffers, addresses and controls
        // they point to, which are of the lengths given and are used by nobody else meanwhile.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                count,
                libc::MSG_WAITFORONE as _,
                std::ptr::null_mut(),
            )
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        for (at, message) in messages.iter().take(received).enumerate() {
            let Some(from) = peer(&self.addresses[at], message.msg_hdr.msg_namelen) else {
                continue;
            };
            let start = at * MESSAGE_BYTES;
            let len = (message.msg_len as usize).min(MESSAGE_BYTES);
            let bytes = &self.buffers[start..start + len];
            match segment_bytes(&message.msg_hdr) {
                Some(segment) if segment < len => {
                    bytes.chunks(segment).for_each(|bytes| datagram(bytes, from));
                }
                _ => datagram(bytes, from),
            }
        }
        Ok(())
    }
}

/// Who sent a message.
fn peer(address: &libc::sockaddr_storage, len: libc::socklen_t) -> Option<SocketAddr> {
    // SAFETY: the kernel wrote an address of `len` bytes; `SockAddrStorage` is transparent over
    // `sockaddr_storage`.
    let address = unsafe {
        let storage = std::ptr::from_ref(address).cast::<socket2::SockAddrStorage>().read();
        SockAddr::new(storage, len)
    };
    address.as_socket()
}

/// The length of the datagrams that a received message was made of, if it was several.
fn segment_bytes(message: &libc::msghdr) -> Option<usize> {
    // SAFETY: the kernel wrote the control messages and their length; the macros stay within it,
    // and a UDP_GRO message holds an int.
    unsafe {
        let mut head = libc::CMSG_FIRSTHDR(message);
        while !head.is_null() {
            if (*head).cmsg_level == libc::SOL_UDP && (*head).cmsg_type == libc::UDP_GRO {
                let bytes = libc::CMSG_DATA(head).cast::<libc::c_int>().read_unaligned();
                return usize::try_from(bytes).ok().filter(|bytes| *bytes > 0);
            }
            head = libc::CMSG_NXTHDR(message, head);
        }
    }
    None
}

const _: () = {
    assert!(size_of::<Control>() >= size_of::<libc::cmsghdr>() + 8);
    assert!(align_of::<Control>() >= align_of::<libc::cmsghdr>());
    assert!(SPRAYER_DATAGRAM_RECORDS_MAX * RECORD_BYTES <= u16::MAX as usize);
};
