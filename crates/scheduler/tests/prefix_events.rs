//! What a watcher of the prefix cache is told by the engine's thread.

use std::sync::{Arc, Mutex};

use backend::{FakeBackend, OutputKind, SamplingParams};
use scheduler::{
    CacheSalt, ContextId, ContextOp, Engine, EngineConfig, EngineHandle, ForwardRequest, Observers, OwnerId,
    PrefixEvent, PrefixParent, PrefixWatcher, Priority, SchedulerConfig, TenantId, Ticket,
};

#[derive(Clone, Default)]
struct Watcher(Arc<Mutex<(bool, Vec<PrefixEvent>)>>);

impl Watcher {
    fn set_full(&self, full: bool) {
        self.0.lock().unwrap().0 = full;
    }

    fn told(&self) -> Vec<PrefixEvent> {
        std::mem::take(&mut self.0.lock().unwrap().1)
    }
}

impl PrefixWatcher for Watcher {
    fn has_room(&self) -> bool {
        !self.0.lock().unwrap().0
    }

    fn tell(&mut self, events: Vec<PrefixEvent>) -> bool {
        let (full, told) = &mut *self.0.lock().unwrap();
        if !*full {
            told.extend(events);
        }
        !*full
    }
}

/// Computes a prompt in a context of its own, which is dropped then.
fn prompt(handle: &EngineHandle, id: u64, tokens: Vec<u32>) {
    let context = ContextId(id);
    let create =
        ContextOp::Create { context, owner: OwnerId(id), priority: Priority::Normal, tenant: TenantId(7) };
    handle.apply(create).unwrap();
    let mut request = ForwardRequest::new(Ticket(id), context, tokens);
    let last = request.tokens.len() - 1;
    request.outputs.push((last, OutputKind::Token(SamplingParams::greedy())));
    let mut reply = handle.forward(request);
    while reply.try_recv().unwrap().is_none() {
        std::thread::yield_now();
    }
    handle.apply(ContextOp::Drop { context }).unwrap();
    // Another turn of the engine: it has told of the last one.
    let mut stats = handle.stats();
    while stats.try_recv().unwrap().is_none() {
        std::thread::yield_now();
    }
}

#[test]
fn a_watcher_hears_what_comes_and_goes_and_all_there_is_after_it_missed_some() {
    let watcher = Watcher::default();
    let backend = Box::new(FakeBackend::new(6, 50));
    let (config, engine) = (SchedulerConfig::default(), EngineConfig::default());
    let prefixes = Some(Box::new(watcher.clone()) as Box<dyn PrefixWatcher>);
    let observers = Observers { prefixes, ..Observers::default() };
    let (handle, _engine) = Engine::start_observed(backend, config, engine, observers).unwrap();
    let page = handle.limits().page_tokens;
    let tokens = |first: u32, pages: u32| vec![first; (pages * page + 1) as usize];
    let pages = |events: &[PrefixEvent]| -> Vec<(u64, PrefixParent)> {
        let stored = events.iter().filter_map(|event| match event {
            PrefixEvent::Stored { page, parent, .. } => Some((*page, *parent)),
            _ => None,
        });
        stored.collect()
    };
    prompt(&handle, 1, tokens(1, 2));
    let told = watcher.told();
    let stored = pages(&told);
    let [(first, PrefixParent::Root(TenantId(7), CacheSalt(0))), (second, PrefixParent::Page(parent))] =
        stored[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!((parent, told.len()), (first, 2));
    assert!(
        matches!(&told[1], PrefixEvent::Stored { position, tokens, .. } if *position == page && tokens[..] == vec![1; page as usize])
    );
    prompt(&handle, 2, tokens(1, 2));
    assert!(watcher.told().is_empty(), "what is there does not come again");
    // Six pages: the first prompt's go, the last of them first.
    prompt(&handle, 3, tokens(2, 5));
    let told = watcher.told();
    let removed: Vec<u64> = told
        .iter()
        .filter_map(|event| match event {
            PrefixEvent::Removed { page } => Some(*page),
            _ => None,
        })
        .collect();
    assert_eq!(removed, [second, first]);
    assert_eq!(pages(&told).len(), 5);
    // No room: what came meanwhile is told with all that is there.
    watcher.set_full(true);
    prompt(&handle, 4, tokens(3, 1));
    assert!(watcher.told().is_empty());
    watcher.set_full(false);
    prompt(&handle, 5, tokens(3, 1));
    let told = watcher.told();
    assert_eq!(told[0], PrefixEvent::Lost);
    let roots = |events: &[PrefixEvent], token: u32| {
        events
            .iter()
            .filter(|event| matches!(event, PrefixEvent::Stored { tokens, .. } if tokens[0] == token))
            .count()
    };
    assert_eq!(roots(&told, 3), 1, "{told:?}");
    assert!(roots(&told, 2) >= 3, "{told:?}");
}
