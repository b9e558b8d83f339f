//! A Spring Boot application that has its properties from the cluster, by
//! spring-cloud-starter-alibaba-nacos-config: at its start, after a change, and after a kill.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};

use super::harness::{Client, Cluster, Key, wait_until};
use super::{compile, java};

/// For the application to start: a Java on a busy machine.
const START: Duration = Duration::from_secs(90);
/// For a change to reach the application.
const SOON: Duration = Duration::from_secs(30);

fn key() -> Key {
    Key { data_id: "app.yaml".to_owned(), group: "DEFAULT_GROUP".to_owned() }
}

async fn until_said(app: &Client, wanted: &str) {
    let said = async || {
        let said = app.get_path("/said").await.ok()?;
        (said.status == 200 && said.text() == wanted).then_some(())
    };
    wait_until(wanted, SOON, said).await;
}

#[tokio::test]
async fn a_spring_boot_application() {
    let class_path = match compile("spring", "spring", &[]).await {
        Ok(class_path) => class_path,
        Err(why) => return println!("SKIP a Spring Boot application: {why}"),
    };
    let mut cluster = Cluster::start(3).await;
    let content = "greeting: hello\nlimits:\n  most: 3\n";
    cluster.client(1).publish(&key(), content).await.acknowledged();
    cluster.agree().await;
    let servers: Vec<String> =
        cluster.clients().iter().map(|client| client.address().to_string()).collect();
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut command = java(&class_path);
    command.arg("app.App").arg("--server.address=127.0.0.1").arg("--server.port=0");
    command.arg("--spring.config.import=nacos:app.yaml?refreshEnabled=true");
    command.arg(format!("--spring.cloud.nacos.config.server-addr={}", servers.join(",")));
    command.current_dir(home.path()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.kill_on_drop(true).spawn().expect("Java starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut said = Vec::new();
    let started = async {
        while let Some(line) = lines.next_line().await.expect("text") {
            let port = line.split("Tomcat started on port ").nth(1);
            said.push(line.clone());
            if let Some(port) = port.and_then(|rest| rest.split(' ').next()) {
                return port.parse::<u16>().expect("a port");
            }
        }
        panic!("the application ended");
    };
    let port = tokio::time::timeout(START, started).await;
    let port = port.unwrap_or_else(|_| panic!("the application did not start: {said:#?}"));
    // What it says from here on is not looked at, and must not stop it.
    let rest = async { while let Ok(Some(_)) = lines.next_line().await {} };
    let app = Client::new(([127, 0, 0, 1], port).into());
    let body = async {
        until_said(&app, "hello 3").await;
        println!("spring: properties at the start: ok");
        let content = "greeting: hi\nlimits:\n  most: 4\n";
        cluster.client(0).publish(&key(), content).await.acknowledged();
        until_said(&app, "hi 4").await;
        println!("spring: refreshed after a change: ok");
        cluster.node(0).kill();
        let content = "greeting: hey\nlimits:\n  most: 5\n";
        let published = async || {
            cluster.client(1).publish(&key(), content).await.is_acknowledged().then_some(())
        };
        wait_until("a publish", SOON, published).await;
        until_said(&app, "hey 5").await;
        println!("spring: refreshed with a node killed: ok");
    };
    tokio::select! {
        () = body => {}
        () = async { rest.await; std::future::pending::<()>().await } => {}
    }
}
