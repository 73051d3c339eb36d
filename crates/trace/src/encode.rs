//! A recording as a file that Perfetto opens.
//!
//! ```text
//! pie                          recording     one slice: what this is, and what was dropped
//! engine smollm2               batches       a slice for each batch, with those for page moves and computing in it
//!                              pages free …  counters
//! text-completion 1a2b3c4d     life          from the launch to the end
//!                              calls         calls of the host; those that overlap are side by side
//! ```
//!
//! A group is a process to Perfetto, with a number of its own. A pass is a flow: it begins at the call, goes through the
//! batches that computed it, and ends at the mark `answer` at the end of the call. What began before the recording or
//! ends after it is cut there.

use std::time::Instant;

use prost::encoding;

use crate::events::{Argument, BatchEvent, CallEvent, Inferlet, Value, counter_names};
use crate::lanes::lanes;
use crate::perfetto::{
    AnnotationValue, BOOTTIME, COUNTER, Clock, ClockSnapshot, CounterDescriptor, Data, DebugAnnotation,
    INSTANT, PACKET, ProcessDescriptor, REALTIME, SLICE_BEGIN, SLICE_END, STATE_CLEARED, TracePacket,
    TrackDescriptor, TrackEvent, UNIT_COUNT,
};
use crate::recorder::Recording;

/// All packets are of one sequence.
const SEQUENCE: u32 = 1;
/// Digits of an inferlet's id in the name of its group.
const ID_DIGITS: usize = 8;

/// What happens at a moment, by its index in the recording.
#[derive(Clone, Copy)]
enum Moment {
    RecordingBegins,
    RecordingEnds,
    LifeBegins(usize),
    LifeEnds(usize),
    CallBegins(usize),
    Answer(usize),
    CallEnds(usize),
    BatchBegins(usize),
    MovesBegin(usize),
    ComputeBegins(usize),
    /// Of the moves, or of computing.
    PartEnds(usize),
    BatchEnds(usize),
    Sample(usize),
}

impl Recording {
    /// The bytes of a `perfetto.protos.Trace`.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder =
            Encoder { recording: self, bytes: Vec::new(), tracks: 0, groups: 0, is_first: true };
        encoder.clock();
        let tracks = encoder.describe();
        let moments = self.moments();
        for (at, moment) in moments {
            encoder.moment(at, moment, &tracks);
        }
        encoder.bytes
    }

    /// Nanoseconds since 1970 of a moment, cut to the recording.
    fn at(&self, moment: Instant) -> u64 {
        let since = moment.clamp(self.began, self.ended).saturating_duration_since(self.began);
        (self.began_unix + since).as_nanos() as u64
    }

    /// Where a life begins and ends in the recording.
    fn life(&self, inferlet: &Inferlet) -> (u64, u64) {
        let ended = inferlet.ended.unwrap_or(self.ended);
        (self.at(inferlet.began), self.at(ended.max(inferlet.began)))
    }

    /// Where a call begins and ends, within the life of its inferlet.
    fn call(&self, call: &CallEvent) -> (u64, u64) {
        let (born, gone) = self.life(&self.inferlets[call.inferlet as usize]);
        let ended = self.at(call.ended.unwrap_or(self.ended));
        let began = self.at(call.began).clamp(born, gone);
        (began, ended.clamp(began, gone))
    }

    /// All that happens, in the order of time. Of what happens at once, what belongs to one track stays in its order.
    fn moments(&self) -> Vec<(u64, Moment)> {
        let mut moments = vec![(self.at(self.began), Moment::RecordingBegins)];
        for (index, inferlet) in self.inferlets.iter().enumerate() {
            let (began, ended) = self.life(inferlet);
            moments.extend([(began, Moment::LifeBegins(index)), (ended, Moment::LifeEnds(index))]);
        }
        for index in self.calls_by_beginning() {
            let (began, ended) = self.call(&self.calls[index]);
            moments.push((began, Moment::CallBegins(index)));
            moments.extend(self.calls[index].answered.then_some((ended, Moment::Answer(index))));
            moments.push((ended, Moment::CallEnds(index)));
        }
        for (index, BatchEvent { batch, .. }) in self.batches.iter().enumerate() {
            let [began, moved, ended] = [batch.began, batch.moved, batch.ended].map(|at| self.at(at));
            moments.push((began, Moment::BatchBegins(index)));
            if batch.copies + batch.spills + batch.restores > 0 {
                moments.extend([(began, Moment::MovesBegin(index)), (moved, Moment::PartEnds(index))]);
            }
            moments.extend([(moved, Moment::ComputeBegins(index)), (ended, Moment::PartEnds(index))]);
            moments.push((ended, Moment::BatchEnds(index)));
        }
        let samples = self.samples.iter().enumerate();
        moments.extend(samples.map(|(index, sample)| (self.at(sample.at), Moment::Sample(index))));
        moments.push((self.at(self.ended), Moment::RecordingEnds));
        moments.sort_by_key(|(at, _)| *at);
        moments
    }

    /// Calls are written down when a thread gets to it, nearly in this order.
    fn calls_by_beginning(&self) -> Vec<usize> {
        let mut calls: Vec<usize> = (0..self.calls.len()).collect();
        calls.sort_by_key(|index| self.call(&self.calls[*index]).0);
        calls
    }
}

/// The tracks of all things, by their indices.
struct Tracks {
    recording: u64,
    batches: Vec<u64>,
    counters: Vec<[u64; 6]>,
    lives: Vec<u64>,
    calls: Vec<u64>,
}

struct Encoder<'a> {
    recording: &'a Recording,
    bytes: Vec<u8>,
    tracks: u64,
    groups: i32,
    is_first: bool,
}

impl Encoder<'_> {
    fn packet(&mut self, timestamp: Option<u64>, data: Data) {
        let sequence_flags = std::mem::take(&mut self.is_first).then_some(STATE_CLEARED);
        let packet = TracePacket {
            timestamp,
            trusted_packet_sequence_id: Some(SEQUENCE),
            sequence_flags,
            data: Some(data),
        };
        encoding::message::encode(PACKET, &packet, &mut self.bytes);
    }

    /// Says that timestamps are the time of the day.
    fn clock(&mut self) {
        let now = self.recording.at(self.recording.began);
        let clock = |id| Clock { clock_id: Some(id), timestamp: Some(now) };
        let clocks = vec![clock(BOOTTIME), clock(REALTIME)];
        self.packet(Some(now), Data::ClockSnapshot(ClockSnapshot { clocks }));
    }

    fn track(&mut self, describe: impl FnOnce(&mut TrackDescriptor)) -> u64 {
        self.tracks += 1;
        let mut descriptor = TrackDescriptor { uuid: Some(self.tracks), ..TrackDescriptor::default() };
        describe(&mut descriptor);
        self.packet(None, Data::TrackDescriptor(descriptor));
        self.tracks
    }

    fn group(&mut self, name: String) -> u64 {
        self.groups += 1;
        let pid = self.groups;
        self.track(|track| {
            track.process = Some(ProcessDescriptor { pid: Some(pid), process_name: Some(name) });
        })
    }

    fn track_of(&mut self, group: u64, name: &str, rank: i32) -> u64 {
        self.track(|track| {
            track.parent_uuid = Some(group);
            track.name = Some(name.to_string());
            track.sibling_order_rank = Some(rank);
        })
    }

    /// Describes all tracks.
    fn describe(&mut self) -> Tracks {
        let group = self.group("pie".to_string());
        let recording = self.track_of(group, "recording", 0);
        let (mut batches, mut counters) = (Vec::new(), Vec::new());
        for name in &self.recording.engines {
            let group = self.group(format!("engine {name}"));
            batches.push(self.track_of(group, "batches", 0));
            let mut rank = 0;
            counters.push(counter_names().map(|name| {
                rank += 1;
                self.track(|track| {
                    track.parent_uuid = Some(group);
                    track.name = Some(name.to_string());
                    track.sibling_order_rank = Some(rank);
                    track.counter = Some(CounterDescriptor { unit: Some(UNIT_COUNT) });
                })
            }));
        }
        let mut of_inferlet: Vec<Vec<usize>> = vec![Vec::new(); self.recording.inferlets.len()];
        for call in self.recording.calls_by_beginning() {
            of_inferlet[self.recording.calls[call].inferlet as usize].push(call);
        }
        let mut lives = Vec::new();
        let mut tracks_of_calls = vec![0; self.recording.calls.len()];
        for (inferlet, calls) in self.recording.inferlets.iter().zip(of_inferlet) {
            let id: String = inferlet.id.chars().take(ID_DIGITS).collect();
            let group = self.group(format!("{} {id}", inferlet.program));
            lives.push(self.track_of(group, "life", 0));
            let spans = calls.iter().map(|call| self.recording.call(&self.recording.calls[*call]));
            let mut lanes_of_calls = Vec::new();
            for (call, lane) in calls.iter().zip(lanes(spans)) {
                // Perfetto shows tracks of one name below each other.
                while lanes_of_calls.len() <= lane {
                    lanes_of_calls.push(self.track_of(group, "calls", 1));
                }
                tracks_of_calls[*call] = lanes_of_calls[lane];
            }
        }
        Tracks { recording, batches, counters, lives, calls: tracks_of_calls }
    }

    fn event(&mut self, at: u64, kind: i32, track: u64, fill: impl FnOnce(&mut TrackEvent)) {
        let mut event = TrackEvent { kind: Some(kind), track_uuid: Some(track), ..TrackEvent::default() };
        fill(&mut event);
        self.packet(Some(at), Data::TrackEvent(event));
    }

    fn begin(&mut self, at: u64, track: u64, category: &str, name: &str, fill: impl FnOnce(&mut TrackEvent)) {
        self.event(at, SLICE_BEGIN, track, |event| {
            event.name = Some(name.to_string());
            event.categories = vec![category.to_string()];
            fill(event);
        });
    }

    fn end(&mut self, at: u64, track: u64) {
        self.event(at, SLICE_END, track, |_| {});
    }

    fn moment(&mut self, at: u64, moment: Moment, tracks: &Tracks) {
        let Recording { inferlets, calls, batches, samples, .. } = self.recording;
        let engine = |index: usize| batches[index].engine as usize;
        match moment {
            Moment::RecordingBegins => {
                let annotations = self.about();
                self.begin(at, tracks.recording, "pie", "recording", |event| {
                    event.debug_annotations = annotations
                });
            }
            Moment::RecordingEnds => self.end(at, tracks.recording),
            Moment::LifeBegins(index) => {
                let inferlet = &inferlets[index];
                let began_before = self.recording.began.saturating_duration_since(inferlet.began);
                let track = tracks.lives[index];
                self.begin(at, track, "life", &inferlet.program, |event| {
                    event.debug_annotations = about_inferlet(inferlet);
                    if !began_before.is_zero() {
                        event.debug_annotations.push(count("ran_before_ms", began_before.as_millis() as u64));
                    }
                });
            }
            Moment::LifeEnds(index) => self.end(at, tracks.lives[index]),
            Moment::CallBegins(index) => {
                let call = &calls[index];
                self.begin(at, tracks.calls[index], "call", call.name, |event| {
                    event.debug_annotations = call.arguments.iter().map(annotation).collect();
                    event.debug_annotations.extend(call.ticket.map(|ticket| count("ticket", ticket)));
                    event.flow_ids.extend(call.ticket);
                    if call.ended.is_none() {
                        event.debug_annotations.push(text("state", "not over when the recording ended"));
                    }
                });
            }
            Moment::Answer(index) => self.event(at, INSTANT, tracks.calls[index], |event| {
                event.name = Some("answer".to_string());
                event.categories = vec!["call".to_string()];
                event.terminating_flow_ids.extend(calls[index].ticket);
            }),
            Moment::CallEnds(index) => self.end(at, tracks.calls[index]),
            Moment::BatchBegins(index) => {
                let batch = &batches[index];
                self.begin(at, tracks.batches[engine(index)], "batch", "batch", |event| {
                    event.debug_annotations = about_batch(batch);
                    event.flow_ids = batch.batch.passes.iter().map(|(ticket, _)| *ticket).collect();
                });
            }
            Moment::MovesBegin(index) => {
                self.begin(at, tracks.batches[engine(index)], "batch", "page moves", |_| {});
            }
            Moment::ComputeBegins(index) => {
                self.begin(at, tracks.batches[engine(index)], "batch", "compute", |_| {});
            }
            Moment::PartEnds(index) | Moment::BatchEnds(index) => {
                self.end(at, tracks.batches[engine(index)]);
            }
            Moment::Sample(index) => {
                let sample = &samples[index];
                let named = tracks.counters[sample.engine as usize].iter().zip(sample.counters.named());
                for (track, (_, value)) in named {
                    self.event(at, COUNTER, *track, |event| event.counter_value = Some(value as i64));
                }
            }
        }
    }

    /// What the recording is.
    fn about(&self) -> Vec<DebugAnnotation> {
        let Recording { dropped, bytes, capacity, .. } = self.recording;
        vec![
            text("pie", env!("CARGO_PKG_VERSION")),
            count("events", self.recording.events()),
            count("dropped", *dropped),
            count("bytes", *bytes as u64),
            count("bytes_at_most", *capacity as u64),
        ]
    }
}

fn about_inferlet(inferlet: &Inferlet) -> Vec<DebugAnnotation> {
    let mut about =
        vec![text("id", &inferlet.id), text("user", &inferlet.user), count("owner", inferlet.owner)];
    about.extend(inferlet.parent.map(|parent| count("launched_by", parent)));
    about
}

fn about_batch(BatchEvent { batch, .. }: &BatchEvent) -> Vec<DebugAnnotation> {
    let rows = batch.passes.iter().map(|(_, rows)| u64::from(*rows)).sum();
    let mut about = vec![
        count("rows", rows),
        count("sequences", batch.passes.len() as u64),
        count("cached", batch.cached),
        count("outputs", batch.outputs),
        count("copies", batch.copies),
        count("spills", batch.spills),
        count("restores", batch.restores),
    ];
    // By ticket, as the flows are.
    let of_passes: Vec<String> =
        batch.passes.iter().map(|(ticket, rows)| format!("{ticket}:{rows}")).collect();
    about.push(text("passes", &of_passes.join(" ")));
    about.extend(batch.failed.then(|| count("failed", 1)));
    about
}

fn annotation((name, value): &Argument) -> DebugAnnotation {
    match value {
        Value::Count(value) => count(name, *value),
        Value::Text(value) => text(name, value),
    }
}

fn count(name: &str, value: u64) -> DebugAnnotation {
    DebugAnnotation { name: Some(name.to_string()), value: Some(AnnotationValue::Count(value)) }
}

fn text(name: &str, value: &str) -> DebugAnnotation {
    DebugAnnotation { name: Some(name.to_string()), value: Some(AnnotationValue::Text(value.to_string())) }
}

#[cfg(test)]
mod tests;
