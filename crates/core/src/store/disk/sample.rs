//! Histories for the tests of the copy on disk and of the snapshot file.

use bytes::Bytes;
use proptest::prelude::*;

use super::Batch;
use crate::command::{
    Cause, Command, Describe, Presence, Proposal, ProposalId, Publish, PublishGray, Remove, Writer,
};
use crate::content::{ContentType, Md5};
use crate::key::GroupKey;
use crate::kind::gray::Rule;
use crate::store::{State, Store};
use crate::time::{LogTime, Revision};

pub(in crate::store) fn key(number: u32) -> GroupKey {
    GroupKey::from_record(&format!("public\u{2}DEFAULT_GROUP\u{2}service-{number:06}")).unwrap()
}

pub(in crate::store) fn publish(number: u32, content: Bytes) -> Command {
    Command::Publish(Publish {
        key: key(number),
        md5: Md5::of(&content),
        content,
        content_type: ContentType::Text,
        describe: Describe { tags: Some("a,b".to_owned()), ..Describe::default() },
        writer: Writer { user: "nacos".to_owned(), ip: "10.0.0.1".to_owned() },
        expected: None,
        presence: Presence::Any,
        cause: Cause::Publish,
    })
}

fn gray(number: u32, content: Bytes) -> Command {
    Command::PublishGray(PublishGray {
        key: key(number),
        rule: Rule::Tag(format!("t{}", content.len() % 3).into()),
        md5: Md5::of(&content),
        content,
        app: Some("app".to_owned()),
        encrypted_data_key: String::new(),
        writer: Writer::default(),
        expected: None,
    })
}

pub(in crate::store) fn remove(number: u32) -> Command {
    Command::Remove(Remove::new(key(number), Writer::default()))
}

/// Bytes that do not compress.
pub(in crate::store) fn noise(seed: u64, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

pub(in crate::store) fn command() -> impl Strategy<Value = Command> {
    let length = prop_oneof![6 => 0..60_usize, 1 => 6_000..6_200_usize, 1 => 10_000..40_000_usize];
    prop_oneof![
        5 => (0..8_u32, any::<u64>(), length)
            .prop_map(|(number, seed, length)| publish(number, noise(seed, length))),
        2 => (0..8_u32).prop_map(remove),
        // From here on there is history.
        1 => Just(Command::Raise { level: 3 }),
        1 => (0..3_u32, any::<u64>(), 0..9_000_usize)
            .prop_map(|(number, seed, length)| gray(number, noise(seed, length))),
    ]
}

/// Applies commands and says what the disk is told.
#[derive(Default)]
pub(in crate::store) struct Feed {
    store: Store,
    index: u64,
}

impl Feed {
    pub(in crate::store) fn from(state: State) -> Self {
        let index = state.header().applied.map_or(0, |(_, index)| index + 1);
        Self { store: Store::new(state), index }
    }

    pub(in crate::store) fn step(&mut self, command: Command) -> Batch {
        let index = self.index;
        self.index += 1;
        let id = ProposalId { origin: index % 3, nonce: 1, sequence: index + 1, floor: index / 2 };
        let revision = Revision(index + 1);
        let mut apply = self.store.apply();
        apply.set_membership(Bytes::from_static(b"members"));
        let applied =
            apply.proposal(revision, &Proposal { id, time: LogTime(1000 + index), command });
        apply.mark(1, index, revision);
        let mut changes = applied.changes;
        changes.extend(apply.origin_changes());
        Batch { changes, header: apply.header_record() }
    }

    pub(in crate::store) fn state(&self) -> State {
        self.store.freeze()
    }
}

pub(in crate::store) fn fed(commands: Vec<Command>) -> State {
    let mut feed = Feed::default();
    for command in commands {
        feed.step(command);
    }
    feed.state()
}

pub(in crate::store) fn assert_same(got: &State, want: &State) {
    assert_eq!(got.header(), want.header());
    assert_eq!(got.hash(), want.hash());
    assert!(got.configs().eq(want.configs()), "configurations differ");
}
