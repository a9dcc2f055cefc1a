//! What leaves a room: messages to connections, orders, goodbyes.

use super::Room;
use crate::room::{ConnectionId, Output};
use crate::signal::close::Close;
use crate::signal::message::{ErrorCode, Node, Orders, ServerMessage};

impl Room {
    /// Sends the orders that have gathered. `except` gets everything at once in its welcome. The relay hears first: it
    /// expects those who are sent to it.
    pub(super) fn flush_orders(&mut self, except: Option<Node>) {
        let commands = self.wiring.take_commands();
        self.outputs.extend(commands.into_iter().map(Output::Relay));
        let epoch = self.plan.epoch();
        for (node, changes) in self.wiring.take_orders() {
            if Some(node) != except {
                self.tell(
                    node,
                    ServerMessage::Orders(Orders {
                        epoch,
                        reset: false,
                        changes,
                    }),
                );
            }
        }
    }

    /// Takes the connection away from a member.
    pub(super) fn close(&mut self, node: Node, why: Close) {
        if let Some(connection) = self
            .members
            .get_mut(&node)
            .and_then(|member| member.connection.take())
        {
            self.connections.remove(&connection);
            self.outputs.push(Output::Close { connection, why });
        }
    }

    /// Negotiation and keys: kept while the connection is down.
    pub(super) fn pass(&mut self, to: Node, message: ServerMessage) {
        match self.members.get_mut(&to) {
            Some(member) if member.connection.is_none() => member.keep(message),
            Some(_) => self.tell(to, message),
            None => {}
        }
    }

    pub(super) fn tell(&mut self, to: Node, message: ServerMessage) {
        if let Some(connection) = self.members.get(&to).and_then(|member| member.connection) {
            self.outputs.push(Output::Send {
                to: vec![connection],
                message,
            });
        }
    }

    pub(super) fn tell_all(&mut self, message: ServerMessage) {
        let to = self
            .present()
            .filter_map(|member| member.connection)
            .collect();
        self.outputs.push(Output::Send { to, message });
    }

    pub(super) fn tell_others(&mut self, node: Node, message: ServerMessage) {
        let others = self
            .present()
            .filter(|member| member.participant.node != node);
        let to = others.filter_map(|member| member.connection).collect();
        self.outputs.push(Output::Send { to, message });
    }

    pub(super) fn complain(&mut self, to: Node, code: ErrorCode, words: &str, refers_to: &str) {
        let message = words.to_owned();
        self.tell(
            to,
            ServerMessage::Error {
                code,
                message,
                refers_to: Some(refers_to.to_owned()),
            },
        );
    }

    pub(super) fn refuse(&mut self, connection: ConnectionId, code: ErrorCode, words: &str) {
        let message = ServerMessage::Error {
            code,
            message: words.to_owned(),
            refers_to: Some("join".to_owned()),
        };
        self.outputs.push(Output::Send {
            to: vec![connection],
            message,
        });
    }
}
