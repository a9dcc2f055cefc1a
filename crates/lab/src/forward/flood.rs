//! What is sent beside a call as fast as one thread can: junk, the publisher's own datagrams again and bent, handshakes and
//! checks of nobody. Everything goes to the relay's port, over an address of this machine.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use clap::ValueEnum;
use fastrand::Rng;

/// Ports of strangers.
const PORTS: usize = 500;
/// Datagrams that are made ahead, and sent in turn.
const POOL: usize = 2_048;
/// Datagrams of the publisher that are remembered: half a minute of a call.
const KEPT: usize = 8_192;
const JUNK_BYTES: usize = 1_400;

/// What goes wrong beside a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Fault {
    /// Random bytes, to a port of the load's own: what a thread that sends all the time takes from everybody.
    Elsewhere,
    /// Random bytes of strangers.
    Junk,
    /// Handshakes that strangers begin, each with another random number.
    Hellos,
    /// Checks under the publisher's name, signed wrongly.
    Checks,
    /// Plain STUN requests.
    Requests,
    /// What the publisher sent, from strangers: as it was, cut short, with a bit turned.
    Copies,
    /// The same, from the publisher's own address.
    OwnCopies,
    /// One of the receivers reads and says nothing any more.
    Deaf,
    /// One more child, whose link's socket takes nothing from the beginning.
    Stuck,
}

impl Fault {
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value().expect("none is skipped");
        value.get_name().replace('-', "_")
    }
}

/// What a peer sends, remembered, and its socket.
#[derive(Debug, Default)]
pub(crate) struct Tap {
    sent: Mutex<Vec<Vec<u8>>>,
    way: Mutex<Option<(UdpSocket, SocketAddr)>>,
}

impl Tap {
    /// The peer sends this, there, by its socket.
    pub(crate) fn note(&self, datagram: &[u8], to: SocketAddr, by: &impl AsFd) -> io::Result<()> {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        if sent.is_empty() {
            let own = by.as_fd().try_clone_to_owned()?;
            let mut way = self.way.lock().unwrap_or_else(PoisonError::into_inner);
            *way = Some((own.into(), to));
        }
        if sent.len() < KEPT {
            sent.push(datagram.to_vec());
        }
        Ok(())
    }

    fn sent(&self) -> Vec<Vec<u8>> {
        let sent = self.sent.lock();
        sent.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A thread that floods.
#[derive(Debug)]
pub(crate) struct Flood {
    over: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Flood {
    /// Begins. `None`: this fault is no flood.
    pub(crate) fn start(fault: Fault, tap: &Tap, address: IpAddr) -> io::Result<Option<Self>> {
        let way = tap
            .way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let (own, relay) = way.ok_or(io::ErrorKind::NotConnected)?;
        let strangers = || -> io::Result<Vec<UdpSocket>> {
            (0..PORTS).map(|_| UdpSocket::bind((address, 0))).collect()
        };
        let mut rng = Rng::with_seed(1);
        let pool = pool(fault, &tap.sent(), &mut rng).ok_or(io::ErrorKind::InvalidData)?;
        let (sockets, to, unread) = match fault {
            Fault::Deaf | Fault::Stuck => return Ok(None),
            Fault::OwnCopies => (vec![own], relay, None),
            Fault::Elsewhere => {
                let unread = UdpSocket::bind((address, 0))?;
                (strangers()?, unread.local_addr()?, Some(unread))
            }
            Fault::Junk | Fault::Hellos | Fault::Checks | Fault::Requests | Fault::Copies => {
                (strangers()?, relay, None)
            }
        };
        let over = Arc::new(AtomicBool::new(false));
        let ending = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            // Open, so that nothing comes back from there.
            let _unread = unread;
            let datagrams = pool.iter().cycle();
            let mut sent = 0;
            for (datagram, socket) in datagrams.zip(sockets.iter().cycle()) {
                if ending.load(Ordering::Relaxed) {
                    break;
                }
                sent += u64::from(socket.send_to(datagram, to).is_ok());
            }
            sent
        });
        Ok(Some(Self { over, thread }))
    }

    /// Ends, and says how many datagrams that were.
    pub(crate) fn stop(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or(0)
    }
}

/// What is sent, in turn. `None`: what it is made of was never sent.
fn pool(fault: Fault, sent: &[Vec<u8>], rng: &mut Rng) -> Option<Vec<Vec<u8>>> {
    let check = sent.iter().find(|datagram| datagram.starts_with(&[0, 1]));
    let hello = sent.iter().find(|datagram| is_hello(datagram));
    let one = |rng: &mut Rng| -> Option<Vec<u8>> {
        Some(match fault {
            Fault::Elsewhere | Fault::Junk => junk(rng),
            Fault::Requests => {
                let head = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
                [&head, &bytes(rng, 12)[..]].concat()
            }
            // The transaction: the signature is over another.
            Fault::Checks => renewed(check?, 8, 12, rng)?,
            // Behind the heads of record and message and the version.
            Fault::Hellos => renewed(hello?, 27, 32, rng)?,
            Fault::Copies | Fault::OwnCopies => bent(rng.choice(sent)?, rng),
            Fault::Deaf | Fault::Stuck => Vec::new(),
        })
    };
    (0..POOL).map(|_| one(rng)).collect()
}

/// DTLS: a handshake record of epoch 0 with a ClientHello.
fn is_hello(datagram: &[u8]) -> bool {
    matches!(datagram, [22, 254, _, 0, 0, ..]) && datagram.get(13) == Some(&1)
}

fn bytes(rng: &mut Rng, count: usize) -> Vec<u8> {
    std::iter::repeat_with(|| rng.u8(..)).take(count).collect()
}

fn junk(rng: &mut Rng) -> Vec<u8> {
    let length = rng.usize(1..=JUNK_BYTES);
    let mut junk = bytes(rng, length);
    // Of each kind that shares the port (RFC 7983), and of none.
    junk[0] = *rng
        .choice(&[0, 1, 22, 23, 64, 128, 129, 191, 255])
        .expect("some");
    junk
}

fn renewed(datagram: &[u8], at: usize, count: usize, rng: &mut Rng) -> Option<Vec<u8>> {
    let mut datagram = datagram.to_vec();
    datagram
        .get_mut(at..at + count)?
        .copy_from_slice(&bytes(rng, count));
    Some(datagram)
}

fn bent(datagram: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut datagram = datagram.to_vec();
    let at = rng.usize(..datagram.len().max(1));
    match rng.u8(..3) {
        0 => {}
        1 => datagram.truncate(at),
        _ => {
            if let Some(byte) = datagram.get_mut(at) {
                *byte ^= 1 << rng.u8(..8);
            }
        }
    }
    datagram
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flood_has_what_it_is_made_of_or_says_that_it_has_not() {
        let mut rng = Rng::with_seed(7);
        let check = [&[0, 1, 0, 12][..], &[7; 28]].concat();
        let mut hello = record();
        hello[13] = 1;
        let sent = vec![check.clone(), hello.clone()];
        for &fault in Fault::value_variants() {
            let made = pool(fault, &sent, &mut rng).expect("all is there");
            assert_eq!(made.len(), POOL, "{fault:?}");
            let differ = made.iter().filter(|datagram| **datagram != check);
            assert!(differ.count() >= POOL / 2, "{fault:?}");
        }
        for fault in [Fault::Checks, Fault::Hellos, Fault::Copies] {
            assert_eq!(pool(fault, &[], &mut rng), None);
        }
    }

    fn record() -> Vec<u8> {
        let mut record = vec![22, 254, 253];
        record.resize(80, 0);
        record
    }

    #[test]
    fn a_handshake_is_begun_anew_with_another_number_and_nothing_else_changed() {
        let mut hello = record();
        hello[13] = 1;
        let again = renewed(&hello, 27, 32, &mut Rng::with_seed(1)).expect("long enough");
        assert!(is_hello(&again) && !is_hello(&record()));
        assert_eq!((&again[..27], &again[59..]), (&hello[..27], &hello[59..]));
        assert_ne!(again[27..59], hello[27..59]);
    }
}
