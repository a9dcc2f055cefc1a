//! What the clock does to a room: heartbeats and silence, hand-over, repair and key requests, layers that begin or end, reports.
//!
//! Each peer, stream and room has one deadline. An open link is looked at when a heartbeat is due, 20 times a second at most,
//! and each 10 ms only while something waits for it; a stream ten times a second while pictures come, each 10 ms only while
//! one is missing.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::Micros;
use crate::backup::Backup;
use crate::command::{Layers, Node, Stream};
use crate::common::{Common, Owner};
use crate::control::{Control, MAX_NUMBERS};
use crate::edges::{begin, choose, source};
use crate::event::{EdgeReport, Event, LinkReport, Lost, Report};
use crate::frame::MS;
use crate::relay::{Close, Link, Reason};
use crate::room::RoomState;
use crate::stream::{Edge, FIT_AGAIN, FIT_LATEST, StreamState};

/// How long a parent waits for the child's `take` before it begins by itself.
const TAKE_WAIT: Micros = 300 * MS;
/// What of a link is kept for sound before pictures are fitted into it is what its streams' sound takes, and this in any case,
/// bit/s and streams: with its packets' headers. Who is silent takes next to nothing, and few speak at a time.
const SOUND_BPS: f64 = 60_000.0;
const TALKERS: usize = 2;
/// How often pictures are fitted in anew while estimate, edges and layers are what they were: their rates move.
const FIT: Micros = 100 * MS;
/// A higher layer is begun with where there is room for so many times its rate, and goes on down to this share of it: the
/// lane's own bounds see to what lasts.
const FIT_UP: f64 = 1.25;
const FIT_STAY: f64 = 0.8;
/// A higher layer that did not last so long was a try that failed: its key frame alone may be what the way does not carry.
const FIT_LASTS: Micros = 10_000 * MS;
/// Nothing is looked at more often.
const LOOK: Micros = 10 * MS;
/// How often rings are looked at while nothing comes.
const RING_LOOK: Micros = 500 * MS;
const REPORT: Micros = 1000 * MS;

impl StreamState {
    /// When to look at the stream again, key requests left aside.
    pub(crate) fn next(&self, now: Micros) -> Option<(Micros, Reason)> {
        let video = (0..).zip(&self.video).filter_map(|(layer, gaps)| {
            let gaps = gaps.as_ref()?;
            // No key frame is asked for while the parent says that it sends others.
            let key = gaps.next_key().filter(|_| self.promised(layer));
            [gaps.next(now), key].into_iter().flatten().min()
        });
        let gaps = video.chain(self.audio.next(now)).min();
        let ring = (self.ring.frames() > 0).then_some(now + RING_LOOK);
        [
            (gaps, Reason::Repair),
            (self.choose_at, Reason::Layers),
            (ring, Reason::Ring),
            (
                self.previous_until.filter(|_| self.previous.is_some()),
                Reason::Stream,
            ),
            (self.backup.as_ref().and_then(Backup::until), Reason::Stream),
        ]
        .into_iter()
        .filter_map(|(at, why)| Some((at?, why)))
        .min()
    }
}

impl RoomState {
    /// A peer's deadline.
    pub(crate) fn tend_peer(&mut self, node: Node, common: &mut Common, now: Micros) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        peer.timer.taken();
        if peer
            .link
            .as_ref()
            .is_some_and(|link| link.stuck(common.settings.queue_bytes, now))
        {
            common.counters.stuck += 1;
            self.close(node, Some(Close::Stuck), common, now);
        }
        self.tend_life(node, common, now);
        self.tend_edges(node, common, now);
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        peer.count_drops(common);
        peer.pump(common, now);
        let next = match &peer.link {
            None => peer.expected_by.map(|at| (at, Reason::Expected)),
            Some(link) => {
                let busy = peer.edges.values().filter(|edge| !edge.is_idle());
                let lanes = busy.filter_map(|edge| {
                    if edge.started {
                        edge.lane.next(now)
                    } else {
                        Some(edge.since + TAKE_WAIT)
                    }
                });
                let stands = link.stands().then_some(now + LOOK);
                let lane = lanes
                    .chain(stands)
                    .min()
                    .map(|at| (at.max(now + LOOK), Reason::Lane));
                let quiet = link.quiet_at(common.stood);
                let noted = !peer.guarded || peer.quiet;
                let life = link.next(common.stood, now);
                let life = if noted { life } else { life.min(quiet) };
                let life = life.max(now + MS);
                Some(lane.map_or((life, Reason::Link), |lane| lane.min((life, Reason::Link))))
            }
        };
        common
            .deadlines
            .set(&mut peer.timer, Owner::Peer(self.id, node), next);
    }

    fn tend_life(&mut self, node: Node, common: &mut Common, now: Micros) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let (quiet, lost) = match &mut peer.link {
            Some(link) => {
                link.beat(common, now);
                let quiet = peer.guarded && now >= link.quiet_at(common.stood);
                (quiet, link.fell_silent(common, now))
            }
            None => {
                let lost = peer.expected_by.take_if(|at| *at <= now).is_some();
                (peer.guarded && peer.was_up, lost)
            }
        };
        let was_up = peer.was_up;
        if quiet {
            self.fell_quiet(node, common, now);
        }
        if lost {
            self.was_reported(node);
            let why = if was_up { Lost::Silent } else { Lost::Never };
            common.event(Event::Lost {
                room: self.id,
                peer: node,
                why,
            });
        }
    }

    fn tend_edges(&mut self, node: Node, common: &mut Common, now: Micros) {
        let Some(peer) = self.peers.get_mut(&node).filter(|peer| peer.link.is_some()) else {
            return;
        };
        let (choked, drained) = match &peer.link {
            Some(link) => (link.choked(now), link.drained(now)),
            None => return,
        };
        let carries = peer
            .link
            .as_ref()
            .and_then(|link| Some((link.id, link.carries()?)));
        let mut refit: Vec<Stream> = Vec::new();
        if let Some((link, bps)) = carries
            && peer
                .fitted
                .is_due((link, bps), &peer.edges, &self.streams, now)
        {
            refit = fit(&mut peer.edges, &mut self.streams, bps, now);
        }
        let mut flush: Vec<Stream> = Vec::new();
        let mut after = None;
        // Edges by number, so that none is visited twice while the peer is lent out.
        while let Some((&key, edge)) = peer.edges.range_mut(next_after(after)..).next() {
            after = Some(key);
            let Some(stream) = self.streams.get_mut(&key) else {
                continue;
            };
            if !edge.started {
                if !edge.stands_by && now - edge.since >= TAKE_WAIT {
                    edge.since = now;
                    if edge.may_begin(now) {
                        let have = peer.takes.get(&key).cloned().unwrap_or_default();
                        begin(stream, peer, &have, common, now);
                        flush.push(key);
                    }
                }
                continue;
            }
            let ceiling = edge.lane.gate.ceiling;
            edge.lane.tick(choked, now);
            let moved = edge.lane.gate.ceiling != ceiling || refit.contains(&key);
            let wanted = edge.lane.gate.wants_key(drained, now);
            let tip = edge.lane.tips(now);
            if moved {
                choose(stream, peer, common, now);
            }
            if let Some((l, g, n)) = tip {
                peer.control(&Control::Tip { s: key, l, g, n }, common, now);
            }
            if !wanted.is_empty() {
                wanted.iter().for_each(|layer| stream.keys.request(layer));
                flush.push(key);
            }
        }
        for key in flush {
            self.flush_keys(key, common, now);
            self.schedule_stream(key, common, now);
        }
    }

    /// A stream's deadline: hand-over, repair, key frames, layers.
    pub(crate) fn tend_stream(&mut self, key: Stream, common: &mut Common, now: Micros) {
        let Some(stream) = self.streams.get_mut(&key) else {
            return;
        };
        stream.timer.taken();
        if stream.previous_until.is_some_and(|until| now >= until) {
            stream.previous = None;
            stream.previous_until = None;
        }
        stream.ring.expire(now);
        let choose = stream.choose_at.is_some_and(|at| now >= at);
        let until = stream.backup.as_ref().and_then(Backup::until);
        if until.is_some_and(|until| now >= until) {
            self.excuse(key, common, now);
        }
        self.take(key, common, now);
        self.repair(key, common, now);
        if choose {
            self.choose_all(key, common, now);
        } else {
            self.flush_keys(key, common, now);
        }
        self.schedule_stream(key, common, now);
    }

    fn repair(&mut self, key: Stream, common: &mut Common, now: Micros) {
        let Some(stream) = self.streams.get_mut(&key) else {
            return;
        };
        let source = source(stream, &self.peers);
        let link = source.and_then(|node| self.peers.get(&node)?.link.as_ref());
        let (srtt, bound) =
            link.map_or((0.0, 200.0), |link| (link.rtt.srtt, link.rtt.bound(200.0)));
        // RTP repairs by itself, and who sends by it keeps no frames.
        let may_ask = link.is_none_or(|link| !link.is_rtp());
        let mut lost = Vec::new();
        for layer in 0..4 {
            let promised = stream.promised(layer);
            let Some(gaps) = stream.gaps_mut(layer) else {
                continue;
            };
            let due = gaps.poll(now, srtt, bound);
            let wants_key = promised && gaps.wants_key(now);
            common.counters.frames_repaired += std::mem::take(&mut gaps.repaired);
            common.counters.frames_lost += std::mem::take(&mut gaps.lost);
            if wants_key {
                stream.keys.request(layer);
            }
            for n in due.ask.chunks(MAX_NUMBERS).filter(|_| may_ask) {
                if let Some(peer) = source.and_then(|node| self.peers.get_mut(&node)) {
                    peer.control(
                        &Control::Need {
                            s: key,
                            l: layer,
                            n: n.to_vec(),
                        },
                        common,
                        now,
                    );
                }
            }
            if !due.lost.is_empty() {
                lost.push((layer, due.lost));
            }
        }
        stream.audio.poll(now, srtt, bound);
        common.counters.frames_lost += std::mem::take(&mut stream.audio.lost);
        for (layer, numbers) in lost {
            self.tell_lost(key, layer, &numbers, common, now);
        }
    }

    fn schedule_stream(&mut self, key: Stream, common: &mut Common, now: Micros) {
        let Some(stream) = self.streams.get_mut(&key) else {
            return;
        };
        let up = source(stream, &self.peers).is_some_and(|node| {
            self.peers
                .get(&node)
                .is_some_and(|peer| peer.link.is_some())
        });
        let keys = stream
            .keys
            .next()
            .filter(|_| up)
            .map(|at| (at, Reason::Keys));
        let next = [stream.next(now), keys].into_iter().flatten().min();
        let next = next.map(|(at, why)| (at.max(now + LOOK), why));
        common
            .deadlines
            .set(&mut stream.timer, Owner::Stream(self.id, key), next);
    }

    /// The room's deadline: what was measured.
    pub(crate) fn report(&mut self, common: &mut Common, now: Micros) {
        self.timer.taken();
        let mut report = Report::default();
        for (&peer, state) in &mut self.peers {
            if let Some(link) = &mut state.link {
                report.links.push(LinkReport {
                    peer,
                    rtt_ms: link.rtt.srtt as f32,
                    sent_bps: link.sent.bps(now).try_into().unwrap_or(u32::MAX),
                    loss: link.loss.share() as f32,
                });
            }
        }
        if report.links.is_empty() {
            return;
        }
        for (&key, stream) in &mut self.streams {
            let Some(parent) = stream.parent.as_ref().filter(|parent| parent.ready) else {
                continue;
            };
            let backup = stream.backup.as_ref().and_then(Backup::source);
            report.edges.push(EdgeReport {
                stream: key,
                parent: backup.unwrap_or(parent.node),
                bps: stream.rate.bps(now).try_into().unwrap_or(u32::MAX),
                delay_ms: stream.delay.ms() as f32,
                layer: stream.alive().top(),
            });
        }
        common.event(Event::Report {
            room: self.id,
            report,
        });
        common.deadlines.set(
            &mut self.timer,
            Owner::Room(self.id),
            Some((now + REPORT, Reason::Report)),
        );
    }
}

/// What a link's pictures were fitted to.
#[derive(Debug, Default)]
pub(crate) struct Fitted {
    at: Micros,
    /// With what it carries, bit/s.
    link: Option<(Link, u64)>,
    /// The layers that are ordered, and those that come.
    edges: Vec<(Stream, Layers, Layers)>,
}

impl Fitted {
    /// Are they to be fitted anew? Then they will be.
    fn is_due(
        &mut self,
        link: (Link, u64),
        edges: &BTreeMap<Stream, Edge>,
        streams: &BTreeMap<Stream, StreamState>,
        now: Micros,
    ) -> bool {
        let busy = edges.iter().filter(|(_, edge)| !edge.is_idle());
        let layers = busy.map(|(&key, edge)| {
            let comes = streams.get(&key).map_or(Layers::NONE, StreamState::alive);
            (key, edge.layers, comes)
        });
        let same = self.link == Some(link)
            && now.saturating_sub(self.at) < FIT
            && layers.clone().eq(self.edges.iter().copied());
        if !same {
            self.at = now;
            self.link = Some(link);
            self.edges.clear();
            self.edges.extend(layers);
        }
        !same
    }
}

/// Shares what a link carries among its pictures: everybody the lowest layer, then higher ones as far as there is room, the
/// edge with the largest allotment first. The edges for which that changed.
fn fit(
    edges: &mut BTreeMap<Stream, Edge>,
    streams: &mut BTreeMap<Stream, StreamState>,
    bps: u64,
    now: Micros,
) -> Vec<Stream> {
    let busy = edges.iter().filter(|(_, edge)| !edge.is_idle());
    let sound: u64 = busy
        .filter_map(|(key, _)| Some(streams.get_mut(key)?.sound.bps(now)))
        .sum();
    let talkers = edges.len().min(TALKERS);
    let mut room = bps as f64 - (sound as f64).max(SOUND_BPS * talkers as f64);
    // What each would take, by the highest layer that it may have.
    let mut wishes = Vec::new();
    for (&key, edge) in edges.iter().filter(|(_, edge)| !edge.is_idle()) {
        let Some((stream, top)) = streams.get_mut(&key).zip(edge.layers.top()) else {
            continue;
        };
        let ceilings = stream.alive().up_to(top);
        let costs: Vec<(u8, f64)> = ceilings
            .iter()
            .map(|ceiling| {
                let layers = stream.choose(edge.layers, Some(ceiling));
                (ceiling, stream.bps_of(layers, now))
            })
            .collect();
        if let Some((_, lowest)) = costs.first() {
            room -= lowest;
            wishes.push((edge.lane.rate_bps(), key, costs));
        }
    }
    wishes.sort_by_key(|&(allotted, key, _)| (Reverse(allotted), key));
    let mut changed = Vec::new();
    for (_, key, costs) in wishes {
        let Some(edge) = edges.get_mut(&key) else {
            continue;
        };
        let mut fits = None;
        for (&(lower, below), &(higher, above)) in costs.iter().zip(costs.iter().skip(1)) {
            let up = edge.fits.is_some_and(|fits| fits < higher);
            let waits = up && now.saturating_sub(edge.fitted_at) < edge.fit_again;
            let margin = if up { FIT_UP } else { FIT_STAY };
            if waits || above * margin - below > room {
                fits = Some(lower);
                break;
            }
            room -= above - below;
        }
        if edge.fits != fits {
            let rises = fits.is_none() || (edge.fits.is_some() && edge.fits < fits);
            if !rises && edge.fitted_at > 0 {
                let failed = now - edge.fitted_at < FIT_LASTS;
                edge.fit_again = if failed {
                    (edge.fit_again * 2).min(FIT_LATEST)
                } else {
                    FIT_AGAIN
                };
            }
            edge.fits = fits;
            edge.fitted_at = now;
            changed.push(key);
        }
    }
    changed
}

fn next_after(key: Option<Stream>) -> Stream {
    key.map_or(Stream(0), |Stream(n)| Stream(n.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Frame;
    use crate::lane::Lane;
    use crate::testing::key;
    use bytes::Bytes;

    #[test]
    fn pictures_are_fitted_anew_when_estimate_edges_or_layers_change_else_each_tenth_of_a_second() {
        let stream = |n| Stream::new(n, 0);
        let edge = |layers| Edge::new(layers, Lane::new(1_000_000, 1 << 20, 0), 0);
        let both = [1, 2].map(|n| (stream(n), StreamState::new(stream(n), 0)));
        let mut streams = BTreeMap::from(both);
        let mut edges = BTreeMap::from([(stream(1), edge(Layers(1)))]);
        let mut fitted = Fitted::default();
        let (mut now, mut link, mut bps) = (0, Link(1), 1_000_000);
        let mut done = Vec::new();
        for look in 0..40 {
            now += LOOK;
            match look {
                13 => bps += 1,
                16 => drop(edges.insert(stream(2), edge(Layers(1)))),
                18 => drop(edges.insert(stream(2), edge(Layers(3)))),
                20 => drop(edges.remove(&stream(1))),
                23 => link = Link(2),
                25 => {
                    let header = key(0);
                    let (sealed, at) = (Bytes::from_static(&[0; 90]), now);
                    let came = streams.get_mut(&stream(2)).expect("there");
                    came.keep(&Frame { header, sealed, at });
                }
                _ => {}
            }
            if fitted.is_due((link, bps), &edges, &streams, now) {
                done.push(look);
            }
        }
        assert_eq!(done, [0, 10, 13, 16, 18, 20, 23, 25, 35]);
    }
}
