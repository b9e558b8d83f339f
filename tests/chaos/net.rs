//! Network namespaces: one for each node, on a bridge that the clients stand on. All of it lives in
//! namespaces of the test's own and ends with them.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

/// The clients' side of the bridge.
const CLIENTS: &str = "10.78.0.254/24";

/// Why there can be no namespaces here.
pub(crate) fn cannot() -> Option<String> {
    for tool in ["unshare", "ip", "iptables", "mount"] {
        if !quiet(&["sh", "-c", &format!("command -v {tool}")]) {
            return Some(format!("no {tool}"));
        }
    }
    let probe = "ip link add q0 type veth peer name q1 && ip link add q2 type bridge && \
                 iptables -A INPUT -s 10.0.0.1 -j DROP";
    let probe = ["unshare", "--net", "--mount", "--pid", "--fork", "sh", "-c", probe];
    (!quiet(&probe)).then(|| "no network namespaces with veth, bridge and iptables".to_owned())
}

fn quiet(words: &[&str]) -> bool {
    let output = Command::new(words[0]).args(&words[1..]).output();
    output.is_ok_and(|output| output.status.success())
}

/// Runs a command that must work.
pub(crate) fn run(line: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let output = Command::new(words[0]).args(&words[1..]).output().expect("it starts");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The bridge, and a namespace for each of so many nodes.
pub(crate) fn lay(nodes: usize) {
    // Names of namespaces are files; these are ours alone.
    run("mount -t tmpfs tmpfs /run");
    run("ip link set lo up");
    run("ip link add bridge type bridge");
    run(&format!("ip addr add {CLIENTS} dev bridge"));
    run("ip link set bridge up");
    for node in 0..nodes {
        run(&format!("ip netns add n{node}"));
        run(&format!("ip link add v{node} type veth peer name eth0 netns n{node}"));
        run(&format!("ip link set v{node} master bridge up"));
        inside(node, "ip link set lo up");
        inside(node, &format!("ip addr add {}/24 dev eth0", ip(node)));
        inside(node, "ip link set eth0 up");
    }
}

pub(crate) fn ip(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 78, 0, u8::try_from(node + 1).expect("few nodes"))
}

/// Peer, HTTP and gRPC address of a node.
pub(crate) fn addresses(node: usize) -> [SocketAddr; 3] {
    [7848, 8848, 9848].map(|port| SocketAddr::from((ip(node), port)))
}

/// What a process of this node is started by.
pub(crate) fn wrapper(node: usize) -> Vec<String> {
    ["ip", "netns", "exec", &format!("n{node}")].map(str::to_owned).to_vec()
}

fn inside(node: usize, line: &str) {
    run(&format!("ip netns exec n{node} {line}"));
}

/// What the network does to one node's packets from and to the other nodes; clients are not cut
/// off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// None come, none go.
    Both,
    /// It is heard by nobody.
    Mute,
    /// It hears nobody.
    Deaf,
    /// So many of a hundred are lost: TCP repeats them, later and later.
    Lossy(u8),
    /// Connections are reset.
    Reset,
}

/// Rules that do it.
pub(crate) fn cut(node: usize, nodes: usize, cut: Cut) {
    for other in (0..nodes).filter(|other| *other != node) {
        let (from, to) = (format!("INPUT -s {}", ip(other)), format!("OUTPUT -d {}", ip(other)));
        let drops = match cut {
            Cut::Both => vec![format!("{from} -j DROP"), format!("{to} -j DROP")],
            Cut::Mute => vec![format!("{to} -j DROP")],
            Cut::Deaf => vec![format!("{from} -j DROP")],
            Cut::Lossy(percent) => {
                let some = format!("-m statistic --mode random --probability 0.{percent:02}");
                vec![format!("{from} {some} -j DROP"), format!("{to} {some} -j DROP")]
            }
            Cut::Reset => vec![format!("{from} -p tcp -j REJECT --reject-with tcp-reset")],
        };
        drops.iter().for_each(|rule| inside(node, &format!("iptables -A {rule}")));
    }
}

/// All goes through again.
pub(crate) fn heal(node: usize) {
    inside(node, "iptables -F");
}

/// Whether the kernel has what loses some packets and not others.
pub(crate) fn loses_some() -> bool {
    let rule =
        "iptables -A INPUT -s 10.78.9.9 -m statistic --mode random --probability 0.1 -j DROP";
    quiet(&rule.split(' ').collect::<Vec<_>>())
}
