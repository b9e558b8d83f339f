//! Random operations and restarts, compared with a plain list.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Append { count: usize, len: usize, wait: bool },
    Truncate { back: usize },
    Purge { share: u8 },
    PurgeAhead { by: u64 },
    Vote,
    Committed { share: u8 },
    Read { start: u64, len: u64 },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1_usize..20, 0_usize..400, any::<bool>())
            .prop_map(|(count, len, wait)| Step::Append { count, len, wait }),
        3 => (0_usize..40).prop_map(|back| Step::Truncate { back }),
        3 => any::<u8>().prop_map(|share| Step::Purge { share }),
        1 => (0_u64..9).prop_map(|by| Step::PurgeAhead { by }),
        2 => Just(Step::Vote),
        2 => any::<u8>().prop_map(|share| Step::Committed { share }),
        4 => (0_u64..200, 0_u64..60).prop_map(|(start, len)| Step::Read { start, len }),
        2 => Just(Step::Restart),
    ]
}

/// What the log should be.
#[derive(Debug, Default)]
struct Model {
    entries: Vec<Entry>,
    purged: Option<LogId>,
    vote: Option<Vote>,
    committed: Option<LogId>,
    term: u64,
}

impl Model {
    fn last(&self) -> Option<LogId> {
        self.entries.last().map(|entry| entry.log_id).or(self.purged)
    }

    fn next(&self) -> u64 {
        self.last().map_or(0, |id| id.index + 1)
    }

    fn at(&self, share: u8) -> Option<LogId> {
        let at = self.entries.len() * usize::from(share) / 256;
        self.entries.get(at).map(|entry| entry.log_id)
    }
}

async fn run(steps: Vec<Step>, options: LogOptions) {
    let mut log = Log::new(options).await;
    let mut model = Model::default();
    for step in steps {
        log = apply(log, &mut model, step).await;
        assert_eq!(log.handle.last_log_id(), model.last());
        assert_eq!(log.handle.purged(), model.purged);
    }
    let mut log = log.reopen().await;
    check(&mut log, &model).await;
}

async fn apply(mut log: Log, model: &mut Model, step: Step) -> Log {
    match step {
        Step::Append { count, len, wait } => {
            let new: Vec<_> =
                (model.next()..).take(count).map(|at| entry(model.term, at, len)).collect();
            model.entries.extend(new.clone());
            let flushed = log.submit(new).await.unwrap();
            if wait {
                flushed.await.unwrap().unwrap();
            }
        }
        Step::Truncate { back } => {
            let keep = model.entries.len().saturating_sub(back);
            model.entries.truncate(keep);
            model.term += 1;
            log.store.truncate_after(model.last()).await.unwrap();
        }
        Step::Purge { share } => {
            if let Some(upto) = model.at(share) {
                model.entries.retain(|entry| entry.log_id.index > upto.index);
                model.purged = Some(upto);
                log.store.purge(upto).await.unwrap();
            }
        }
        Step::PurgeAhead { by } => {
            let upto = id(model.term, model.next() + by);
            model.entries.clear();
            model.purged = Some(upto);
            log.store.purge(upto).await.unwrap();
        }
        Step::Vote => {
            model.term += 1;
            model.vote = Some(Vote::new(model.term, 3));
            log.store.save_vote(&Vote::new(model.term, 3)).await.unwrap();
        }
        Step::Committed { share } => {
            model.committed = model.at(share);
            log.store.save_committed(model.committed).await.unwrap();
        }
        Step::Read { start, len } => {
            let read = log.reader.try_get_log_entries(start..start + len).await.unwrap();
            let expected = model
                .entries
                .iter()
                .filter(|entry| (start..start + len).contains(&entry.log_id.index));
            assert!(read.iter().eq(expected), "{start}..{}", start + len);
        }
        Step::Restart => {
            log = log.reopen().await;
            check(&mut log, model).await;
        }
    }
    log
}

async fn check(log: &mut Log, model: &Model) {
    assert_eq!(log.all().await, model.entries);
    assert_eq!(log.handle.last_log_id(), model.last());
    assert_eq!(log.handle.purged(), model.purged);
    assert_eq!(log.reader.read_vote().await.unwrap(), model.vote);
    assert_eq!(log.store.read_committed().await.unwrap(), model.committed);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_log_is_a_list(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps, LogOptions { segment_bytes: 1024, ..small() }));
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzz_record(&bytes);
        // Most of them stop at the kind or the length; help them past.
        let mut bytes = bytes;
        if let Some(kind) = bytes.get_mut(record::KIND_AT) {
            *kind = *kind % 6 + 1;
        }
        if bytes.len() >= record::HEAD_BYTES {
            let len = u32::try_from(bytes.len() - record::HEAD_BYTES).unwrap();
            bytes[..4].copy_from_slice(&len.to_le_bytes());
        }
        fuzz_record(&bytes);
    }
}
