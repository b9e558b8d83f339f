//! What a read sees, and where.

use tokio::task::JoinSet;

use crate::harness::{Cluster, Key, Read};

#[tokio::test]
async fn a_follower_reads_its_own_write_at_once() {
    let cluster = Cluster::start(3).await;
    let follower = cluster.followers().await[0];
    let client = cluster.client(follower);
    let key = Key::new("own");
    let mut last = 0;
    for number in 0..50 {
        let content = format!("write {number}");
        let revision = client.publish(&key, &content).await.acknowledged();
        assert!(revision > last, "revision {revision} after {last}");
        last = revision;
        let answer = client.get(&key, Read::Local).await.unwrap();
        assert_eq!(answer.content(), Some(content.as_str()));
        assert!(answer.revision() >= revision, "{answer:?}");
    }
    let revision = client.remove(&key).await.acknowledged();
    let answer = client.get(&key, Read::Local).await.unwrap();
    assert_eq!(answer.content(), None);
    assert!(answer.revision() >= revision, "{answer:?}");
}

/// Writes at each node and reads at each in turn, at once.
async fn check_fresh_reads(read: fn(u64) -> Read) {
    let cluster = Cluster::start(3).await;
    let key = Key::new("fresh");
    for round in 0..10 {
        for writer in 0..3 {
            let content = format!("round {round} at {writer}");
            let revision = cluster.client(writer).publish(&key, &content).await.acknowledged();
            for reader in 0..3 {
                let answer = cluster.client(reader).get(&key, read(revision)).await.unwrap();
                assert_eq!(answer.content(), Some(content.as_str()), "at {reader}");
                assert!(answer.revision() >= revision, "{answer:?}");
            }
        }
    }
    cluster.agree().await;
}

#[tokio::test]
async fn min_revision_is_waited_for_on_every_node() {
    check_fresh_reads(Read::MinRevision).await;
}

#[tokio::test]
async fn a_linearizable_read_sees_every_finished_write_on_every_node() {
    check_fresh_reads(|_| Read::Linearizable).await;
}

#[tokio::test]
async fn of_writes_that_compare_one_wins() {
    let cluster = Cluster::start(3).await;
    let key = Key::new("contended");
    let revision = cluster.client(0).publish(&key, "base").await.acknowledged();
    for round in 0..5 {
        let base = cluster.client(0).get(&key, Read::MinRevision(revision)).await.unwrap();
        let md5 = base.header("Content-MD5").expect("an md5").to_owned();
        let mut writes = JoinSet::new();
        for writer in 0..6 {
            let (client, key, md5) = (cluster.client(writer % 3).clone(), key.clone(), md5.clone());
            let content = format!("round {round} by {writer}");
            writes.spawn(async move {
                let answer = client.publish_cas(&key, &content, &md5).await.unwrap();
                (answer.status, answer.text().to_owned(), content)
            });
        }
        let answers = writes.join_all().await;
        let won: Vec<_> = answers.iter().filter(|(status, ..)| *status == 200).collect();
        assert_eq!(won.len(), 1, "{answers:?}");
        for (status, text, _) in answers.iter().filter(|(status, ..)| *status != 200) {
            assert_eq!((*status, text.as_str()), (500, "false"));
        }
        let answer = cluster.client(round % 3).get(&key, Read::Linearizable).await.unwrap();
        assert_eq!(answer.content(), Some(won[0].2.as_str()));
    }
}
