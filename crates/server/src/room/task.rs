//! The task of one room: takes commands in order, keeps the time, and carries outputs to outboxes. It never waits for
//! a client: an outbox that is full closes its own connection.

use super::state::Room;
use super::{ConnectionId, Input, Output};
use crate::metrics::Metrics;
use crate::relay::Relay;
use crate::signal::close::Close;
use crate::signal::message::ServerMessage;
use crate::signal::outbox::{Outbox, text};
use grove_tree::Millis;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::RuntimeFlavor;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Commands that may wait for a room. Connections wait when it is full, each for itself.
const COMMANDS: usize = 1024;

/// People from whom on planning is done aside. A guess: rooms of this size are where a fact moves many edges.
const MANY: usize = 12;

/// What connections ask of a room.
#[expect(missing_debug_implementations, reason = "holds a secret")]
pub enum Command {
    /// Join; answered with whether it worked. The words for the client are in its outbox.
    Join {
        /// [`Input::Join`].
        input: Input,
        /// The socket.
        connection: ConnectionId,
        /// Its outbox.
        outbox: Outbox,
        /// The answer.
        joined: oneshot::Sender<bool>,
    },
    /// Anything else.
    Input(Input),
    /// Who is here?
    Look {
        /// The answer.
        answer: oneshot::Sender<ServerMessage>,
    },
}

/// A room's queue.
pub type Handle = mpsc::Sender<Command>;

/// What the task needs besides the room.
#[expect(missing_debug_implementations, reason = "holds a secret")]
pub struct Context {
    /// The room's id.
    pub id: String,
    /// The same, short and useless for entering: for the log.
    pub label: String,
    /// Counters of the server.
    pub metrics: Arc<Metrics>,
    /// The room's number at the relay.
    pub number: grove_relay::Room,
    /// The relay, where there is one.
    pub relay: Option<Arc<Relay>>,
    /// Time 0 of the room.
    pub started: Instant,
    /// Told when the room has ended.
    pub ended: Box<dyn Fn(&str) + Send>,
}

/// Starts the task of a room. What the relay says comes in a queue of its own, which never makes the relay wait: it says
/// little, and only about links and streams that the room ordered.
pub fn spawn(room: Room, context: Context, relay: mpsc::UnboundedReceiver<Input>) -> Handle {
    let (handle, commands) = mpsc::channel(COMMANDS);
    tokio::spawn(run(room, context, commands, relay));
    handle
}

/// What a room holds outside of itself, given back however its task ends: by the end of the room, when nobody is left in
/// it, or by a panic, when its members would otherwise wait for ever.
struct Stay {
    context: Context,
    outboxes: HashMap<ConnectionId, Outbox>,
    people: i64,
}

impl Drop for Stay {
    fn drop(&mut self) {
        let (context, room) = (&self.context, &self.context.label);
        for outbox in self.outboxes.values() {
            outbox.close(Close::Broken);
        }
        context.metrics.participants.dec_by(self.people);
        context.metrics.rooms.dec();
        if let Some(relay) = &context.relay {
            relay.command(grove_relay::Command::Leave {
                room: context.number,
            });
        }
        if std::thread::panicking() {
            tracing::error!(room, members = self.outboxes.len(), "room broke");
        } else {
            tracing::info!(room, "room ended");
        }
        (context.ended)(&context.id);
    }
}

async fn run(
    mut room: Room,
    context: Context,
    mut commands: mpsc::Receiver<Command>,
    mut relay: mpsc::UnboundedReceiver<Input>,
) {
    let mut stay = Stay {
        context,
        outboxes: HashMap::new(),
        people: 0,
    };
    let started = stay.context.started;
    let now = || started.elapsed().as_millis() as Millis;
    while !room.is_over(now()) {
        let due = room
            .poll_timeout()
            .map(|due| started + Duration::from_millis(due));
        let wake = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let outputs = tokio::select! {
            () = wake => aside(room.count(), || room.handle_timeout(now())),
            Some(input) = relay.recv() => aside(room.count(), || room.handle(input, now())),
            command = commands.recv() => match command {
                None => break,
                Some(Command::Look { answer }) => {
                    // The asker may be gone: nobody to tell.
                    let _ = answer.send(room.look(stay.context.id.clone()));
                    continue;
                }
                Some(Command::Input(input)) => aside(room.count(), || room.handle(input, now())),
                Some(Command::Join { input, connection, outbox, joined }) => {
                    stay.outboxes.insert(connection, outbox);
                    let outputs = aside(room.count(), || room.handle(input, now()));
                    carry_out(&outputs, &stay);
                    let entered = room.is_member(connection);
                    if joined.send(entered).is_err() && entered {
                        let gone = room.handle(Input::Disconnected { connection }, now());
                        carry_out(&gone, &stay);
                    }
                    Vec::new()
                }
            },
        };
        carry_out(&outputs, &stay);
        stay.outboxes
            .retain(|connection, _| room.is_member(*connection));
        let count = room.count() as i64;
        let metrics = &stay.context.metrics;
        metrics.participants.inc_by(count - stay.people);
        stay.people = count;
    }
}

/// Planning for many takes long enough to be felt: the runtime moves other rooms to another thread meanwhile.
fn aside<T>(people: usize, work: impl FnOnce() -> T) -> T {
    let threads = tokio::runtime::Handle::current().runtime_flavor();
    if people < MANY || threads != RuntimeFlavor::MultiThread {
        return work();
    }
    tokio::task::block_in_place(work)
}

fn carry_out(outputs: &[Output], stay: &Stay) {
    let Stay {
        context, outboxes, ..
    } = stay;
    for output in outputs {
        match output {
            Output::Send { to, message } if !to.is_empty() => {
                let text = text(message);
                for outbox in to.iter().filter_map(|connection| outboxes.get(connection)) {
                    outbox.send(text.clone());
                }
            }
            Output::Send { .. } => {}
            Output::Close { connection, why } => {
                outboxes
                    .get(connection)
                    .inspect(|outbox| outbox.close(*why));
            }
            Output::Relay(command) => {
                if let Some(relay) = &context.relay {
                    relay.command(command.clone());
                }
            }
            Output::Joined { resumed } => {
                context.metrics.joined(*resumed);
                tracing::info!(room = context.label, resumed, "participant joined");
            }
            Output::Moved { reason } => context.metrics.moved(*reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::outbox::outbox;

    #[tokio::test]
    async fn a_room_that_panics_lets_its_members_go_and_leaves_nothing_behind() {
        let metrics = Arc::new(Metrics::default());
        metrics.rooms.set(2);
        metrics.participants.set(5);
        let (ended, mut is_ended) = mpsc::unbounded_channel();
        let (member, _waiting) = outbox();
        let closing = member.closing();
        let stay = Stay {
            context: Context {
                id: "room".into(),
                label: "label".into(),
                metrics: metrics.clone(),
                number: 1,
                relay: None,
                started: Instant::now(),
                ended: Box::new(move |id| ended.send(id.to_owned()).expect("somebody listens")),
            },
            outboxes: HashMap::from([(ConnectionId(7), member)]),
            people: 3,
        };
        let broken = tokio::spawn(async move {
            let _stay = stay;
            panic!("a fault of the room");
        });
        assert!(broken.await.is_err_and(|error| error.is_panic()));
        assert_eq!(*closing.borrow(), Some(Close::Broken));
        assert_eq!(is_ended.recv().await.as_deref(), Some("room"));
        assert_eq!((metrics.rooms.get(), metrics.participants.get()), (1, 2));
    }
}
