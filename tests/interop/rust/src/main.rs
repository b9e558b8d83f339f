//! What a service does with configurations, through the crate nacos-sdk (gRPC). Arguments: the
//! addresses of the nodes. Prints a line for each case; asks for a node to be killed by the line KILL
//! and goes on when it reads a line.

use std::collections::HashSet;
use std::error::Error;
use std::io::BufRead;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nacos_sdk::api::config::{
    ConfigChangeListener, ConfigResponse, ConfigService, ConfigServiceBuilder,
};
use nacos_sdk::api::props::ClientProps;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

const GROUP: &str = "interop";
/// It says once a minute what it has, also to another node.
const SOON: Duration = Duration::from_secs(75);

type Done = Result<(), Box<dyn Error>>;

/// Prints the line of a case.
fn told(name: &str, done: Done) {
    match done {
        Ok(()) => println!("ok   {name}"),
        Err(why) => println!("FAIL {name}: {}", why.to_string().replace('\n', " ")),
    }
}

async fn connect(servers: &str, namespace: &str) -> Result<ConfigService, Box<dyn Error>> {
    let props = ClientProps::new()
        .server_addr(servers)
        .namespace(namespace)
        .app_name("interop")
        .config_load_cache_at_start(false)
        .cache_dir("cache");
    Ok(ConfigServiceBuilder::new(props).build().await?)
}

async fn publish(client: &ConfigService, key: &str, content: &str) -> Done {
    let done = client.publish_config(key.into(), GROUP.into(), content.into(), None).await?;
    if done { Ok(()) } else { Err(format!("publish of {key}: false").into()) }
}

async fn remove(client: &ConfigService, key: &str) -> Done {
    let done = client.remove_config(key.into(), GROUP.into()).await?;
    if done { Ok(()) } else { Err(format!("removal of {key}: false").into()) }
}

/// Read again until it is so: another node may be a moment behind. Empty: nothing is there.
async fn becomes(client: &ConfigService, key: &str, wanted: &str) -> Done {
    let mut found = String::new();
    for _ in 0..100 {
        let read = client.get_config(key.into(), GROUP.into()).await;
        found = read.map(|read| read.content().clone()).unwrap_or_default();
        if found == wanted {
            return Ok(());
        }
        sleep(Duration::from_millis(50)).await;
    }
    Err(format!("{key} is {found:.80?}").into())
}

async fn eventually(client: &ConfigService, key: &str, content: &str) -> Done {
    for _ in 0..20 {
        if publish(client, key, content).await.is_ok() {
            return Ok(());
        }
        sleep(Duration::from_millis(500)).await;
    }
    Err("never answered".into())
}

struct Heard(mpsc::UnboundedSender<String>);

impl ConfigChangeListener for Heard {
    fn notify(&self, response: ConfigResponse) {
        let _ = self.0.send(response.content().clone());
    }
}

struct Many(Arc<Mutex<HashSet<String>>>);

impl ConfigChangeListener for Many {
    fn notify(&self, response: ConfigResponse) {
        if response.content() == "told" {
            self.0.lock().unwrap().remove(response.data_id());
        }
    }
}

struct World {
    nodes: Vec<String>,
    servers: String,
    client: ConfigService,
    other: ConfigService,
    heard: mpsc::UnboundedReceiver<String>,
}

impl World {
    async fn hears(&mut self, wanted: &str) -> Done {
        while let Some(found) = timeout(SOON, self.heard.recv()).await? {
            if found == wanted {
                return Ok(());
            }
        }
        Err(format!("not heard: {wanted}").into())
    }

    async fn publish_get(&self) -> Done {
        for node in &self.nodes {
            publish(&connect(node, "").await?, "plain", node).await?;
            becomes(&self.client, "plain", node).await?;
            becomes(&self.other, "plain", node).await?;
        }
        Ok(())
    }

    async fn whole(&self, key: &str, content: &str) -> Done {
        publish(&self.client, key, content).await?;
        becomes(&self.other, key, content).await
    }

    async fn removal(&self) -> Done {
        publish(&self.client, "removed", "x").await?;
        becomes(&self.client, "removed", "x").await?;
        remove(&self.client, "removed").await?;
        becomes(&self.client, "removed", "").await?;
        remove(&self.client, "removed").await
    }

    async fn namespaces(&self) -> Done {
        let inside = connect(&self.servers, "space-1").await?;
        publish(&inside, "plain", "inside").await?;
        becomes(&inside, "plain", "inside").await?;
        becomes(&self.client, "plain", self.nodes.last().unwrap()).await
    }

    async fn compare_and_set(&self) -> Done {
        // The md5 of "1".
        const FIRST: &str = "c4ca4238a0b923820dcc509a6f75849b";
        publish(&self.client, "cas", "1").await?;
        let cas = |content: &str| {
            let (key, group) = ("cas".to_owned(), GROUP.to_owned());
            self.client.publish_config_cas(key, group, content.to_owned(), None, FIRST.to_owned())
        };
        if !cas("2").await? {
            return Err("the right md5 is refused".into());
        }
        if cas("3").await.unwrap_or_default() {
            return Err("a wrong md5 is taken".into());
        }
        becomes(&self.client, "cas", "2").await
    }

    async fn listen(&mut self, listener: Arc<Heard>) -> Done {
        self.client.add_listener("heard".into(), GROUP.into(), listener).await?;
        // It asks the server before it remembers the key: a push in between is lost.
        sleep(Duration::from_secs(1)).await;
        // The first content that it gets is not told to listeners, nor is a removal.
        publish(&self.other, "heard", "created").await?;
        becomes(&self.client, "heard", "created").await?;
        sleep(Duration::from_secs(1)).await;
        publish(&self.other, "heard", "changed").await?;
        self.hears("changed").await?;
        // What it says it has is a minute old: a content that it had before is told all the same.
        publish(&self.other, "heard", "created").await?;
        self.hears("created").await?;
        remove(&self.other, "heard").await?;
        publish(&self.other, "heard", "again").await?;
        self.hears("again").await
    }

    async fn silent(&mut self) -> Done {
        publish(&self.other, "heard", "again").await?;
        match timeout(Duration::from_secs(3), self.heard.recv()).await {
            Ok(found) => Err(format!("heard: {found:?}").into()),
            Err(_) => Ok(()),
        }
    }

    async fn many(&self) -> Done {
        let names = (0..500).map(|number| format!("many-{number}"));
        let left = Arc::new(Mutex::new(names.clone().collect::<HashSet<_>>()));
        for name in names.clone() {
            // Of one that is not there the first content would not be told.
            publish(&self.other, &name, "before").await?;
        }
        for name in names.clone() {
            becomes(&self.client, &name, "before").await?;
            let listener = Arc::new(Many(Arc::clone(&left)));
            self.client.add_listener(name, GROUP.into(), listener).await?;
        }
        for name in names {
            publish(&self.other, &name, "told").await?;
        }
        for _ in 0..900 {
            if left.lock().unwrap().is_empty() {
                return Ok(());
            }
            sleep(Duration::from_millis(100)).await;
        }
        Err(format!("{} were not heard of", left.lock().unwrap().len()).into())
    }

    async fn after(&self) -> Done {
        eventually(&self.client, "plain", "after").await?;
        becomes(&self.client, "plain", "after").await
    }

    async fn listen_after(&mut self) -> Done {
        eventually(&self.client, "heard", "after").await?;
        self.hears("after").await
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let nodes: Vec<String> = std::env::args().skip(1).collect();
    let servers = nodes.join(",");
    let (client, other) =
        (connect(&servers, "").await?, connect(nodes.last().ok_or("no nodes")?, "").await?);
    let (tell, heard) = mpsc::unbounded_channel();
    let mut world = World { nodes, servers, client, other, heard };
    let mut failed = 0;
    let mut check = |name: &str, done: Done| {
        failed += usize::from(done.is_err());
        told(name, done);
    };
    check("publish, get", world.publish_get().await);
    check("unicode", world.whole("unicode", "配置 ✓ 😀 \n\t&=+%#\"'<>").await);
    check("1 MiB", world.whole("large", &"0123456789abcdef".repeat(64 * 1024)).await);
    check("remove", world.removal().await);
    check("namespaces are apart", world.namespaces().await);
    check("compare and set", world.compare_and_set().await);
    let listener = Arc::new(Heard(tell));
    check("a listener hears of creation, change and removal", world.listen(listener).await);
    check("the same content is silent", world.silent().await);
    check("500 keys", world.many().await);
    if world.nodes.len() > 1 {
        println!("KILL");
        std::io::stdin().lock().read_line(&mut String::new())?;
        check("publish, get with a node killed", world.after().await);
        check("a listener hears with a node killed", world.listen_after().await);
    }
    println!("{}", if failed == 0 { "all passed".to_owned() } else { format!("{failed} failed") });
    std::process::exit(i32::from(failed > 0));
}
