//! What feature level 3 added: history, gray releases, namespaces, changes of several keys.

use super::*;
use crate::command::{PublishGray, RemoveGray, RemoveNamespace, SetNamespace};
use crate::key::NamespaceId;
use crate::kind::gray::{Labels, MAX_RELEASES, Rule};
use crate::kind::history::{MAX_VERSIONS, Operation};

pub(super) fn rule(number: u8) -> Rule {
    match number % 4 {
        0 => Rule::Beta("10.0.0.1".into()),
        tag => Rule::Tag(tag.to_string().into()),
    }
}

pub(super) fn gray(number: u8, rule: Rule, content: &str) -> Command {
    Command::PublishGray(PublishGray {
        key: key(number),
        rule,
        content: Bytes::copy_from_slice(content.as_bytes()),
        md5: Md5::of(content.as_bytes()),
        app: None,
        encrypted_data_key: String::new(),
        writer: Writer { user: "u".to_owned(), ip: "10.0.0.9".to_owned() },
        expected: None,
    })
}

pub(super) fn end_gray(number: u8, name: &str) -> Command {
    Command::RemoveGray(RemoveGray {
        key: key(number),
        name: name.to_owned(),
        writer: Writer::default(),
    })
}

pub(super) fn namespace(number: u8) -> Command {
    let id = NamespaceId::parse(if number.is_multiple_of(2) { "public" } else { "dev" }).unwrap();
    match number % 3 {
        0 => Command::RemoveNamespace(RemoveNamespace { id, force: number.is_multiple_of(5) }),
        mode => Command::SetNamespace(SetNamespace {
            id,
            name: format!("name {number}"),
            description: String::new(),
            is_new: mode == 1,
        }),
    }
}

/// A state at level 3 to which commands are given one after the other.
struct Given {
    state: State,
    last: u64,
}

impl Given {
    fn new() -> Self {
        let mut given = Self { state: State::default(), last: 0 };
        given.apply(Command::Raise { level: 3 });
        given
    }

    fn apply(&mut self, command: Command) -> crate::store::Applied {
        self.last += 1;
        self.state.apply(Revision(self.last), &proposal(self.last, self.last, command))
    }

    fn outcome(&mut self, command: Command) -> Outcome {
        self.apply(command).reply.outcome
    }

    fn history(&self, number: u8) -> Vec<(&'static str, String)> {
        let text = |content: Bytes| String::from_utf8(content.to_vec()).unwrap();
        let records = self.state.history_of(&key(number));
        records.map(|it| (it.operation.letter(), text(it.kept.content()))).collect()
    }
}

fn told(applied: &crate::store::Applied) -> usize {
    applied.events.len()
}

#[test]
fn a_record_has_the_new_content_of_a_creation_and_the_old_one_of_a_change() {
    let mut given = Given::new();
    for command in [publish(1, "a", None), publish(1, "b", None), publish(1, "b", None), remove(1)]
    {
        given.apply(command);
    }
    given.apply(remove(1));
    let want = [("D", "b"), ("U", "b"), ("U", "a"), ("I", "a")];
    let want: Vec<_> = want.map(|(letter, text)| (letter, text.to_owned())).into();
    assert_eq!(given.history(1), want);
    let ids: Vec<_> = given.state.all_history().map(|record| record.id).collect();
    assert_eq!(ids, [1, 2, 3, 4]);
}

#[test]
fn nothing_is_kept_below_level_3() {
    let mut state = State::default();
    state.apply(Revision(1), &proposal(1, 1, publish(1, "a", None)));
    assert_eq!((state.history_count(), state.history_of(&key(1)).count()), (0, 0));
}

#[test]
fn the_oldest_records_give_way_by_count_and_by_age() {
    let mut given = Given::new();
    for number in 0..MAX_VERSIONS + 5 {
        given.apply(publish(1, &number.to_string(), None));
    }
    assert_eq!(given.state.history_count(), MAX_VERSIONS);
    given.apply(publish(2, "x", None));
    let newest = given.state.history_of(&key(1)).next().unwrap().time;
    let trim = |before, versions, limit| {
        Command::TrimHistory(TrimHistory { before: LogTime(before), versions, limit })
    };
    assert_eq!(given.apply(trim(0, 10, 30)).reply.version, 30);
    assert_eq!(given.state.history_count(), MAX_VERSIONS + 1 - 30);
    assert_eq!(given.apply(trim(0, 10, 1000)).reply.version, 60);
    assert_eq!(given.state.history_of(&key(1)).count(), 10);
    assert_eq!(given.apply(trim(newest.0, 0, 1000)).reply.version, 9);
    assert_eq!((given.history(1).len(), given.history(2).len()), (1, 1));
    assert!(given.state.is_extra_hash_right());
}

#[test]
fn the_oldest_records_of_all_give_way_by_their_bytes() {
    use crate::kind::history::MAX_BYTES;
    let mut given = Given::new();
    let content = "x".repeat(32 * 1024 * 1024);
    for number in 0..12 {
        given.apply(publish(number, &content, None));
    }
    assert!(given.state.history_bytes() <= MAX_BYTES, "{}", given.state.history_bytes());
    let ids: Vec<_> = given.state.all_history().map(|record| record.id).collect();
    assert_eq!(ids, [6, 7, 8, 9, 10, 11, 12]);
    assert!(given.state.is_extra_hash_right());
    let mut builder = StateBuilder::default();
    for row in given.state.rows() {
        builder.row(row).unwrap();
    }
    let read = builder.finish(&given.state.header_record()).unwrap();
    assert_eq!(read.history_bytes(), given.state.history_bytes());
}

#[test]
fn listeners_are_told_of_releases_that_change_what_somebody_sees() {
    let mut given = Given::new();
    given.apply(publish(1, "formal", None));
    let beta = || Rule::Beta("10.0.0.1".into());
    assert_eq!(told(&given.apply(gray(1, beta(), "beta"))), 1);
    assert_eq!(told(&given.apply(gray(1, beta(), "beta"))), 0);
    assert_eq!(told(&given.apply(gray(1, Rule::Beta("10.0.0.2".into()), "beta"))), 1);
    let seen = |given: &Given, ip| given.state.standing(&key(1)).md5_for(&Labels::new(ip, ""));
    assert_eq!(seen(&given, "10.0.0.2"), Some(Md5::of(b"beta")));
    assert_eq!(seen(&given, "10.0.0.1"), Some(Md5::of(b"formal")));
    assert_eq!(told(&given.apply(end_gray(1, "beta"))), 1);
    assert_eq!(given.outcome(end_gray(1, "beta")), Outcome::Absent);
    assert!(given.state.releases(&key(1)).is_none());
    let letters: Vec<_> = given.history(1).into_iter().map(|(letter, _)| letter).collect();
    assert_eq!(letters, ["D", "U", "U", "I", "I"]);
    let names: Vec<_> = given
        .state
        .history_of(&key(1))
        .map(|record| record.kept.gray_name().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(names, ["beta", "beta", "beta", "beta", ""]);
}

#[test]
fn releases_are_bounded_but_may_be_written_again() {
    let mut given = Given::new();
    for number in 0..MAX_RELEASES {
        let rule = Rule::Tag(number.to_string().into());
        assert_eq!(given.outcome(gray(1, rule, "x")), Outcome::Done);
    }
    let more = || gray(1, Rule::Tag("more".into()), "x");
    assert_eq!(given.outcome(more()), Outcome::TooManyReleases);
    assert_eq!(given.outcome(gray(1, Rule::Tag("3".into()), "y")), Outcome::Done);
    given.apply(end_gray(1, "tag_3"));
    assert_eq!(given.outcome(more()), Outcome::Done);
}

#[test]
fn a_namespace_in_use_is_removed_by_force_only() {
    let mut given = Given::new();
    let id = || NamespaceId::parse("public").unwrap();
    let set = |is_new| {
        Command::SetNamespace(SetNamespace {
            id: id(),
            name: "n".to_owned(),
            description: String::new(),
            is_new,
        })
    };
    let gone = |force| Command::RemoveNamespace(RemoveNamespace { id: id(), force });
    assert_eq!(given.outcome(set(false)), Outcome::Absent);
    assert_eq!(given.outcome(set(true)), Outcome::Done);
    assert_eq!(given.outcome(set(true)), Outcome::Exists);
    assert_eq!(given.outcome(set(false)), Outcome::Done);
    given.apply(publish(1, "a", None));
    assert_eq!(given.outcome(gone(false)), Outcome::InUse);
    assert_eq!(given.outcome(gone(true)), Outcome::Done);
    assert_eq!(given.outcome(gone(true)), Outcome::Absent);
    assert_eq!(given.state.config_count(), 1);
}

#[test]
fn changes_of_several_keys_are_made_whole_or_not_at_all() {
    let mut given = Given::new();
    given.apply(publish(1, "a", None));
    let item = |number, content: &str, presence| {
        let Command::Publish(publish) = publish(number, content, None) else { unreachable!() };
        ChangeItem::Publish(Publish { presence, ..publish })
    };
    let refused = given
        .apply(Command::Changes(vec![item(1, "b", Presence::Any), item(2, "c", Presence::Old)]));
    assert_eq!((refused.reply.outcome, refused.reply.version), (Outcome::Absent, 2));
    assert_eq!((given.state.config_count(), given.history(1).len()), (1, 1));
    let done = given.apply(Command::Changes(vec![
        item(1, "b", Presence::Old),
        item(2, "c", Presence::New),
        ChangeItem::Remove(Remove::new(key(3), Writer::default())),
    ]));
    assert_eq!((done.reply.outcome, done.events.len()), (Outcome::Done, 2));
    let revisions: Vec<_> = given.state.all_history().map(|record| record.revision.0).collect();
    assert_eq!(revisions, [2, 4, 4]);
    assert_eq!(given.outcome(Command::Changes(vec![item(2, "d", Presence::New)])), Outcome::Exists);
    assert_eq!(given.state.history(1).unwrap().operation, Operation::Insert);
}
