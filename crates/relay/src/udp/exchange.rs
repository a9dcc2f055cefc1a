//! What the ports of all shards share: whose an address is, the datagrams that came at the wrong shard, and the bounds that are
//! for all of them together.
//!
//! Each shard has sockets of its own on the one port number, and the kernel chooses among them by a hash. What comes at a shard
//! and is another's is put into that one's mailbox, all that one read of the sockets gave at once, and the owner is woken if
//! it had none yet. A mailbox has the two classes of [`super::inbox`]: what verified addresses sent, [`MAIL_BYTES`] of it, and
//! checks of strangers, [`STUN`]; what does not fit is dropped, and counted by who came with it, as the kernel does where a
//! process reads too slowly. So a flood costs the shard that is meant no more than at its own sockets, and the others a look.
//!
//! Locks are held for as long as it takes to move a batch. A stranger waits for none.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::Context;

use futures_util::task::AtomicWaker;

use super::answers::Answers;
use super::inbox::{Datagram, STUN};
use crate::Micros;
use crate::rtp::{Claims, Pool};

/// Bytes that wait for one shard, as much as the kernel is asked to hold at its sockets.
const MAIL_BYTES: usize = 4 << 20;
/// What a datagram takes beside its bytes.
const DATAGRAM_BYTES: usize = 128;
/// Datagrams taken out of a mailbox at once; the sockets are read in between.
const TAKEN: usize = 256;
/// Links in the making, of all peers: each has up to a megabyte. With more the eldest goes; opening takes a second.
pub(super) const PENDING: usize = 128;

/// Datagrams for one shard, as they came.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// What verified addresses sent.
    pub(super) known: VecDeque<Datagram>,
    /// STUN of others.
    pub(super) stun: VecDeque<Datagram>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty() && self.stun.is_empty()
    }
}

#[derive(Debug, Default)]
struct Mail {
    datagrams: Batch,
    bytes: usize,
    /// Links in the making that have to go, by their numbers.
    evicted: Vec<u64>,
}

#[derive(Debug, Default)]
struct Mailbox {
    mail: Mutex<Mail>,
    /// There is something in it. Written under the lock only.
    some: AtomicBool,
    waker: AtomicWaker,
}

impl Mailbox {
    /// Wakes the owner if there was nothing in it before.
    fn wake(&self, mail: MutexGuard<'_, Mail>) {
        let before = self.some.swap(true, Ordering::AcqRel);
        drop(mail);
        if !before {
            self.waker.wake();
        }
    }
}

/// Which links are in the making, and of which shard.
#[derive(Debug, Default)]
struct Pending {
    made: u64,
    by_number: BTreeMap<u64, usize>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(super) claims: Arc<Claims>,
    /// What all links have in the making.
    pub(super) making: Pool,
    answers: Mutex<Answers>,
    pending: Mutex<Pending>,
    mailboxes: Box<[Mailbox]>,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Exchange {
    /// For so many shards.
    pub(crate) fn new(shards: usize) -> Self {
        let claims = Arc::new(Claims::new(shards));
        Self {
            mailboxes: (0..claims.shards()).map(|_| Mailbox::default()).collect(),
            claims,
            making: Pool::default(),
            answers: Mutex::default(),
            pending: Mutex::default(),
        }
    }

    /// How many shards there are.
    pub(super) fn shards(&self) -> usize {
        self.mailboxes.len()
    }

    /// Hands a batch over, which is empty then. How many datagrams of verified addresses were dropped.
    pub(super) fn hand_over(&self, to: usize, batch: &mut Batch) -> usize {
        let Some(mailbox) = self.mailboxes.get(to).filter(|_| !batch.is_empty()) else {
            return 0;
        };
        let mut mail = lock(&mailbox.mail);
        let mut lost = 0;
        for datagram in batch.known.drain(..) {
            let cost = datagram.bytes.len() + DATAGRAM_BYTES;
            if mail.bytes + cost > MAIL_BYTES {
                lost += 1;
                continue;
            }
            mail.bytes += cost;
            mail.datagrams.known.push_back(datagram);
        }
        let room = STUN.saturating_sub(mail.datagrams.stun.len());
        mail.datagrams.stun.extend(batch.stun.drain(..).take(room));
        mailbox.wake(mail);
        lost
    }

    /// Takes some of what was handed to a shard: datagrams behind those that it has, and the links that have to go.
    pub(super) fn collect(&self, shard: usize, into: &mut Batch, evicted: &mut Vec<u64>) {
        let Some(mailbox) = self.mailboxes.get(shard) else {
            return;
        };
        if !mailbox.some.load(Ordering::Acquire) {
            return;
        }
        let mut mail = lock(&mailbox.mail);
        evicted.append(&mut mail.evicted);
        let count = mail.datagrams.known.len().min(TAKEN);
        let known = mail.datagrams.known.drain(..count);
        let mut bytes = 0;
        into.known.extend(known.inspect(|datagram| {
            bytes += datagram.bytes.len() + DATAGRAM_BYTES;
        }));
        mail.bytes -= bytes;
        let room = STUN.saturating_sub(into.stun.len());
        into.stun.extend(mail.datagrams.stun.drain(..).take(room));
        if mail.datagrams.is_empty() {
            mailbox.some.store(false, Ordering::Release);
        }
    }

    /// Is there something for this shard? If not, the task is woken when there is.
    pub(super) fn poll_mail(&self, shard: usize, context: &Context<'_>) -> bool {
        let Some(mailbox) = self.mailboxes.get(shard) else {
            return false;
        };
        if self.shards() > 1 {
            mailbox.waker.register(context.waker());
        }
        mailbox.some.load(Ordering::Acquire)
    }

    /// May this address be answered a plain STUN request? Then it counts as answered, by whichever shard.
    pub(super) fn may_answer(&self, to: IpAddr, now: Micros) -> bool {
        // Who asks in the same moment as another asks again.
        match self.answers.try_lock() {
            Ok(mut answers) => answers.may(to, now),
            Err(TryLockError::Poisoned(answers)) => answers.into_inner().may(to, now),
            Err(TryLockError::WouldBlock) => false,
        }
    }

    /// A further link is in the making at this shard. Its number, which no other has, and the one of the same shard that has to
    /// go for it; if the eldest is another's, that one is told.
    pub(super) fn begin(&self, shard: usize) -> (u64, Option<u64>) {
        let mut pending = lock(&self.pending);
        let eldest = (pending.by_number.len() >= PENDING)
            .then(|| pending.by_number.pop_first())
            .flatten();
        pending.made += 1;
        let number = pending.made;
        pending.by_number.insert(number, shard);
        drop(pending);
        match eldest {
            Some((eldest, of)) if of != shard => {
                if let Some(mailbox) = self.mailboxes.get(of) {
                    let mut mail = lock(&mailbox.mail);
                    mail.evicted.push(eldest);
                    mailbox.wake(mail);
                }
                (number, None)
            }
            eldest => (number, eldest.map(|(eldest, _)| eldest)),
        }
    }

    /// This link is not in the making any more.
    pub(super) fn begun(&self, number: u64) {
        lock(&self.pending).by_number.remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn datagram(bytes: usize) -> Datagram {
        let address = SocketAddr::from(([192, 0, 2, 1], 5));
        Datagram {
            local: address,
            source: address,
            bytes: vec![0; bytes].into(),
        }
    }

    fn batch(known: usize, bytes: usize, stun: usize) -> Batch {
        Batch {
            known: (0..known).map(|_| datagram(bytes)).collect(),
            stun: (0..stun).map(|_| datagram(20)).collect(),
        }
    }

    #[test]
    fn what_a_shard_does_not_take_is_dropped_and_counted_and_strangers_take_no_place_of_others() {
        let exchange = Exchange::new(3);
        let most = MAIL_BYTES / (1000 + DATAGRAM_BYTES);
        assert_eq!(exchange.hand_over(1, &mut batch(0, 0, 10 * STUN)), 0);
        assert_eq!(exchange.hand_over(1, &mut batch(most + 7, 1000, 1)), 7);
        assert_eq!(exchange.hand_over(2, &mut batch(9, 1000, 0)), 0);
        let (mut into, mut evicted) = (Batch::default(), Vec::new());
        exchange.collect(0, &mut into, &mut evicted);
        assert!(into.is_empty());
        let mut rounds = 0;
        while into.known.len() < most {
            exchange.collect(1, &mut into, &mut evicted);
            rounds += 1;
        }
        assert_eq!((rounds, into.stun.len()), (most.div_ceil(TAKEN), STUN));
        exchange.collect(1, &mut into, &mut evicted);
        assert_eq!((into.known.len(), evicted.len()), (most, 0));
        assert_eq!(lock(&exchange.mailboxes[1].mail).bytes, 0);
    }

    #[test]
    fn so_many_links_are_in_the_making_in_all_and_the_eldest_of_all_goes() {
        let exchange = Exchange::new(2);
        for number in 1..=PENDING as u64 {
            let shard = usize::from(number > 1);
            assert_eq!(exchange.begin(shard), (number, None));
        }
        let next = PENDING as u64 + 1;
        assert_eq!(exchange.begin(1), (next, None));
        let (mut into, mut evicted) = (Batch::default(), Vec::new());
        exchange.collect(0, &mut into, &mut evicted);
        assert_eq!(evicted, [1]);
        assert_eq!(exchange.begin(1), (next + 1, Some(2)));
        exchange.begun(next);
        assert_eq!(exchange.begin(0), (next + 2, None));
    }
}
