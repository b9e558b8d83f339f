//! Apply against a plain map, replicas against each other, rows out and in.

mod past;

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::{State, StateBuilder, Store};
use crate::command::{
    Cause, ChangeItem, Command, Describe, ExpectedMd5, Outcome, Presence, Proposal, ProposalId,
    Publish, Remove, TrimHistory, Writer,
};
use crate::content::{ContentType, Md5};
use crate::key::GroupKey;
use crate::record::{decode_proposal, encode_command, seal};
use crate::time::{LogTime, Revision};

fn key(number: u8) -> GroupKey {
    GroupKey::from_record(&format!("public\u{2}G\u{2}d{number}")).unwrap()
}

fn publish(number: u8, content: &str, expected: Option<ExpectedMd5>) -> Command {
    Command::Publish(Publish {
        key: key(number),
        content: Bytes::copy_from_slice(content.as_bytes()),
        md5: Md5::of(content.as_bytes()),
        content_type: ContentType::Text,
        describe: Describe::default(),
        writer: Writer::default(),
        expected,
        presence: Presence::Any,
        cause: Cause::Publish,
    })
}

fn remove(number: u8) -> Command {
    Command::Remove(Remove::new(key(number), Writer::default()))
}

fn proposal(sequence: u64, time: u64, command: Command) -> Proposal {
    let id = ProposalId { origin: 1, nonce: 1, sequence, floor: sequence.saturating_sub(8) };
    Proposal { id, time: LogTime(time), command }
}

#[derive(Debug, Clone)]
enum Step {
    Publish(u8, String),
    Cas(u8, String, String),
    Remove(u8),
    Repeat,
    Decide(u8),
    Gray(u8, String),
    EndGray(u8),
    Namespace(u8),
    Trim(u8),
    Both(u8, String),
}

fn step() -> impl Strategy<Value = Step> {
    let content = "[a-c]{1,2}";
    prop_oneof![
        (0..6u8, content).prop_map(|(key, content)| Step::Publish(key, content)),
        (0..6u8, content, content).prop_map(|(key, old, new)| Step::Cas(key, old, new)),
        (0..6u8).prop_map(Step::Remove),
        any::<u8>().prop_map(Step::Decide),
        Just(Step::Repeat),
        (any::<u8>(), content).prop_map(|(key, content)| Step::Gray(key, content)),
        any::<u8>().prop_map(Step::EndGray),
        any::<u8>().prop_map(Step::Namespace),
        any::<u8>().prop_map(Step::Trim),
        (0..6u8, content).prop_map(|(key, content)| Step::Both(key, content)),
    ]
}

fn proposals(steps: &[Step]) -> Vec<Proposal> {
    let mut made: Vec<Proposal> = Vec::new();
    for (step, sequence) in steps.iter().zip(1..) {
        let command = match step {
            Step::Publish(number, content) => publish(*number, content, None),
            Step::Cas(number, old, new) => {
                publish(*number, new, Some(ExpectedMd5::Digest(Md5::of(old.as_bytes()))))
            }
            Step::Remove(number) => remove(*number),
            Step::Decide(number) => match number % 3 {
                0 => Command::Raise { level: u32::from(*number) },
                1 => Command::Retire { nodes: vec![u64::from(*number), 1] },
                _ => Command::Checkpoint,
            },
            Step::Gray(number, content) => past::gray(number % 6, past::rule(*number), content),
            Step::EndGray(number) => {
                past::end_gray(number % 6, &past::rule(*number).release_name())
            }
            Step::Namespace(number) => past::namespace(*number),
            Step::Trim(number) => Command::TrimHistory(TrimHistory {
                before: LogTime(1000 + u64::from(number % 3)),
                versions: u32::from(*number),
                limit: 7,
            }),
            Step::Both(number, content) => {
                let (Command::Publish(one), Command::Remove(other)) =
                    (publish(*number, content, None), remove((number + 1) % 6))
                else {
                    unreachable!("a publish and a removal")
                };
                Command::Changes(vec![ChangeItem::Publish(one), ChangeItem::Remove(other)])
            }
            Step::Repeat => match made.last() {
                Some(last) => {
                    made.push(last.clone());
                    continue;
                }
                None => continue,
            },
        };
        made.push(proposal(sequence, 1000 + sequence % 3, command));
    }
    made
}

/// The same commands on a plain map: what configurations must hold.
fn model(proposals: &[Proposal]) -> BTreeMap<GroupKey, (Bytes, u64)> {
    let mut map: BTreeMap<GroupKey, (Bytes, u64)> = BTreeMap::new();
    let mut last = 0;
    for proposal in proposals {
        if proposal.id.sequence == last {
            continue;
        }
        last = proposal.id.sequence;
        match &proposal.command {
            Command::Publish(publish) => {
                let before = map.get(&publish.key);
                let refused = match (before, publish.expected) {
                    (Some((content, _)), Some(ExpectedMd5::Digest(md5))) => Md5::of(content) != md5,
                    _ => false,
                };
                if !refused {
                    let version = before.map_or(1, |(_, version)| version + 1);
                    map.insert(publish.key.clone(), (publish.content.clone(), version));
                }
            }
            Command::Remove(remove) => {
                map.remove(&remove.key);
            }
            Command::Changes(items) => {
                for item in items {
                    match item {
                        ChangeItem::Publish(publish) => {
                            let version =
                                map.get(&publish.key).map_or(1, |(_, version)| version + 1);
                            map.insert(publish.key.clone(), (publish.content.clone(), version));
                        }
                        ChangeItem::Remove(remove) => drop(map.remove(&remove.key)),
                    }
                }
            }
            Command::Raise { .. }
            | Command::Retire { .. }
            | Command::Checkpoint
            | Command::PublishGray(_)
            | Command::RemoveGray(_)
            | Command::SetNamespace(_)
            | Command::RemoveNamespace(_)
            | Command::TrimHistory(_) => {}
        }
    }
    map
}

fn run(proposals: &[Proposal]) -> State {
    let mut state = State::default();
    for (proposal, revision) in proposals.iter().zip(1..) {
        state.apply(Revision(revision), proposal);
        state.mark(1, revision - 1, Revision(revision));
    }
    state
}

proptest! {
    #[test]
    fn apply_agrees_with_a_plain_map(steps in prop::collection::vec(step(), 0..60)) {
        let proposals = proposals(&steps);
        let state = run(&proposals);
        let got: BTreeMap<_, _> = state
            .configs()
            .map(|(key, datum)| (key.clone(), (datum.content(), datum.version())))
            .collect();
        prop_assert_eq!(got, model(&proposals));
        let replica = run(&proposals);
        prop_assert_eq!(state.hash(), replica.hash());
        let mut builder = StateBuilder::default();
        for row in state.rows() {
            builder.row(row).unwrap();
        }
        let read = builder.finish(&state.header_record()).unwrap();
        prop_assert_eq!(read.hash(), state.hash());
        prop_assert_eq!(read.header(), state.header());
        prop_assert_eq!(read.recomputed_config_hash(), state.recomputed_config_hash());
        prop_assert!(state.is_extra_hash_right() && read.is_extra_hash_right());
        prop_assert!(read.all_history().eq(state.all_history()));
    }

    #[test]
    fn records_survive(number in 0..9u8, content in "\\PC{0,40}", user in "[a-z]{0,5}",
                       app in prop::option::of("[a-z]{0,5}")) {
        let mut command = publish(number, &content, Some(ExpectedMd5::NeverEqual));
        if let Command::Publish(publish) = &mut command {
            publish.writer.user = user;
            publish.describe.app = app;
        }
        let id = ProposalId { origin: u64::MAX, nonce: 2, sequence: 3, floor: 1 };
        let sealed = seal(id, LogTime(77), &encode_command(&command));
        let want = Proposal { id, time: LogTime(77), command };
        prop_assert_eq!(decode_proposal(sealed).unwrap(), want);
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        drop(decode_proposal(bytes.clone()));
        drop(StateBuilder::default().row(bytes));
    }
}

#[test]
fn a_change_is_announced_only_when_the_content_changed() {
    let mut state = State::default();
    let first = state.apply(Revision(1), &proposal(1, 5, publish(1, "a", None)));
    assert_eq!(
        first.events.iter().map(|event| event.md5).collect::<Vec<_>>(),
        [Some(Md5::of(b"a"))]
    );
    let same = state.apply(Revision(2), &proposal(2, 6, publish(1, "a", None)));
    assert_eq!((same.events, same.reply.version), (vec![], 2));
    let gone = state.apply(Revision(3), &proposal(3, 7, remove(1)));
    assert_eq!(gone.events.iter().map(|event| event.md5).collect::<Vec<_>>(), [None]);
    let absent = state.apply(Revision(4), &proposal(4, 8, remove(1)));
    assert_eq!((absent.events, absent.reply.outcome), (vec![], Outcome::Absent));
}

#[test]
fn compare_and_set_refuses_another_md5_and_inserts_when_absent() {
    let mut state = State::default();
    let made =
        state.apply(Revision(1), &proposal(1, 5, publish(1, "a", Some(ExpectedMd5::NeverEqual))));
    assert_eq!(made.reply.outcome, Outcome::Done);
    let refused =
        state.apply(Revision(2), &proposal(2, 5, publish(1, "b", Some(ExpectedMd5::NeverEqual))));
    assert_eq!((refused.reply.outcome, refused.events), (Outcome::CasMismatch, vec![]));
    assert_eq!(state.config(&key(1)).unwrap().version(), 1);
}

#[test]
fn time_never_runs_backwards_and_create_revision_stays() {
    let mut state = State::default();
    state.apply(Revision(1), &proposal(1, 100, publish(1, "a", None)));
    state.apply(Revision(2), &proposal(2, 50, publish(1, "b", None)));
    let datum = state.config(&key(1)).unwrap();
    assert_eq!(datum.modified(), LogTime(100));
    assert_eq!((datum.create_revision(), datum.modify_revision()), (Revision(1), Revision(2)));
}

#[test]
fn a_frozen_state_stays_as_it_was() {
    let store = Store::default();
    store.apply().proposal(Revision(1), &proposal(1, 1, publish(1, "a", None)));
    let frozen = store.freeze();
    store.apply().proposal(Revision(2), &proposal(2, 1, remove(1)));
    assert_eq!(frozen.config_count(), 1);
    assert_eq!(store.config(&key(1)).0, None);
}
