//! A cluster: each session lives on one of its masters, and the keys of a session on the same one.

use super::login::{IN_A_CLUSTER, RULES, allow, file, the_rights_are_what_is_needed};
use super::replicas_support::process::free_port;
use super::replicas_support::{Fleet, Kind, Redis, Riding, Talk, Word, eventually, other};
use super::{a_session_is_stopped_from_anywhere, is_well, survives_the_death_of_a_replica};

const SLOTS: usize = 16_384;

/// One node of a cluster.
struct Node {
    redis: Redis,
    /// Where other nodes find it.
    bus: u16,
}

impl Node {
    async fn start() -> Self {
        let bus = free_port();
        let arguments = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port"];
        let redis = Redis::with(&[&arguments[..], &[&bus.to_string()]].concat()).await;
        Self { redis, bus }
    }

    async fn meet(&self, other: &Node) {
        let (port, bus) = (other.redis.port.to_string(), other.bus.to_string());
        self.redis.command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await;
    }

    async fn info(&self) -> String {
        self.redis.command(&["CLUSTER", "INFO"]).await.text().to_owned()
    }
}

/// Waits until all of `nodes` know each other, and all is well.
async fn agreed(nodes: &[Node]) {
    for node in nodes {
        eventually("the cluster to agree", async || {
            let info = node.info().await;
            info.contains("cluster_state:ok") && info.contains(&format!("cluster_known_nodes:{}", nodes.len()))
        })
        .await;
    }
}

/// Three masters that share the slots.
async fn masters() -> Vec<Node> {
    let mut nodes = Vec::new();
    for n in 0..3 {
        let node = Node::start().await;
        let (first, last) = (n * SLOTS / 3, (n + 1) * SLOTS / 3 - 1);
        node.redis.command(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]).await;
        node.redis.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(n + 1).to_string()]).await;
        nodes.push(node);
    }
    nodes[0].meet(&nodes[1]).await;
    nodes[0].meet(&nodes[2]).await;
    agreed(&nodes).await;
    nodes
}

/// A copy of the first master.
async fn copy_of_the_first(nodes: &mut Vec<Node>) {
    let node = Node::start().await;
    node.meet(&nodes[0]).await;
    nodes.push(node);
    agreed(nodes).await;
    let id = nodes[0].redis.command(&["CLUSTER", "MYID"]).await.text().to_owned();
    let copy = &nodes[3].redis;
    eventually("the copy to be let in", async || {
        matches!(copy.try_command(&["CLUSTER", "REPLICATE", &id]).await, Word::Text(_))
    })
    .await;
    eventually("the copy to be in step", async || {
        copy.command(&["INFO", "replication"]).await.text().contains("master_link_status:up")
    })
    .await;
    // Everybody has to know, or nobody lets it take the master's place.
    for node in nodes.iter() {
        eventually("the copy to be known as one", async || {
            node.redis.command(&["CLUSTER", "NODES"]).await.text().contains(&format!("slave {id}"))
        })
        .await;
    }
}

/// A fleet whose configuration names the first two masters.
async fn fleet(nodes: &[Node], more: &str) -> Fleet {
    let urls: Vec<_> = nodes[..2].iter().map(|node| format!("'redis://127.0.0.1:{}'", node.redis.port)).collect();
    // One that outlives all: it answers nothing here.
    let store = format!("[store]\nmode = 'cluster'\nurl = [{}]\n{more}", urls.join(", "));
    let fleet = Fleet::on(Redis::start().await, 2, &store).await;
    fleet.until_store_is(true).await;
    fleet
}

/// Streams under way, of all kinds.
async fn begin(fleet: &Fleet, events: usize) -> Vec<Riding> {
    let kinds = [Kind::Plain, Kind::Chat, Kind::Numbered];
    let riding: Vec<_> =
        (0..18).map(|n| fleet.rider(&Talk::new(kinds[n % 3], events, 20)).ride(other(n % 2))).collect();
    for riding in &riding {
        riding.has(10).await;
    }
    riding
}

/// All of them were whole, and paid once.
async fn paid_once(fleet: &Fleet, riding: Vec<Riding>) {
    for riding in riding {
        let told = riding.told().await;
        told.must_be_whole();
        assert_eq!(fleet.service.asked(&told.talk).len(), 1, "{}", told.story());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_on_three_masters_is_well_and_uses_all_of_them_with_the_documented_rights() {
    let nodes = masters().await;
    for node in &nodes {
        let rules = [&RULES[..], &[IN_A_CLUSTER]].concat();
        allow(&node.redis, "streamkeeper", "its-password", &rules).await;
    }
    let password = file("its-password");
    let login = format!("username = 'streamkeeper'\npassword = {{ file = '{}' }}", password.path().display());
    let mut fleet = fleet(&nodes, &login).await;
    is_well(&fleet).await;
    survives_the_death_of_a_replica(&mut fleet).await;
    is_well(&fleet).await;
    for node in &nodes {
        assert!(node.redis.keys("sk:1:{*}:log").await.len() > 2, "a master without sessions");
    }
    let servers: Vec<_> = nodes.iter().map(|node| &node.redis).collect();
    the_rights_are_what_is_needed(&servers, IN_A_CLUSTER).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_outlive_a_planned_change_of_masters_and_hop_whole() {
    let mut nodes = masters().await;
    copy_of_the_first(&mut nodes).await;
    let fleet = fleet(&nodes, "").await;
    let (stay, come_back) = (begin(&fleet, 150).await, begin(&fleet, 150).await);
    nodes[3].redis.command(&["CLUSTER", "FAILOVER"]).await;
    eventually("the copy to be master", async || nodes[3].redis.is_master().await).await;
    come_back.iter().for_each(Riding::leave);
    paid_once(&fleet, stay).await;
    // In the very moment of the change one whose upstream can go on by itself may be sent there.
    for riding in come_back {
        riding.told().await.must_be_whole();
    }
    is_well(&fleet).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_outlive_the_death_of_the_first_master_and_hop_whole() {
    let mut nodes = masters().await;
    copy_of_the_first(&mut nodes).await;
    let fleet = fleet(&nodes, "").await;
    let riding = begin(&fleet, 300).await;
    nodes[0].redis.kill();
    eventually("the copy to be master", async || nodes[3].redis.is_master().await).await;
    for node in &nodes[1..] {
        eventually("the cluster to be whole", async || node.info().await.contains("cluster_state:ok")).await;
    }
    fleet.until_store_is(true).await;
    riding.iter().for_each(Riding::leave);
    paid_once(&fleet, riding).await;
    // Replicas still hear each other, though the server that the configuration names first is dead.
    a_session_is_stopped_from_anywhere(&fleet).await;
    is_well(&fleet).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_takes_its_session_with_it() {
    let nodes = masters().await;
    let fleet = fleet(&nodes, "").await;
    let talk = Talk::plain(120, 20);
    let mut reader = fleet.replicas[0].ask(&talk).events().await;
    reader.take(10).await;
    let key = format!("sk:1:{{{}}}:log", reader.session());
    let slot = nodes[0].redis.command(&["CLUSTER", "KEYSLOT", &key]).await.int();
    let from = (0..3).rfind(|n| n * SLOTS / 3 <= usize::try_from(slot).expect("a slot")).expect("a master");
    let to = (from + 1) % 3;
    eventually("its first events to be there", async || !nodes[from].redis.keys(&key).await.is_empty()).await;
    move_slot(&nodes, slot, from, to).await;
    let last = reader.take(10).await.pop().expect("ten events");
    let hop = fleet.replicas[1].session("GET", &reader.session()).after(last.id()).events().await;
    assert_eq!(hop.rest().await.len(), 101);
    assert_eq!(reader.rest().await.len(), 101);
    assert!(!nodes[to].redis.keys(&key).await.is_empty(), "it has moved");
    is_well(&fleet).await;
}

async fn move_slot(nodes: &[Node], slot: i64, from: usize, to: usize) {
    let mut ids = Vec::new();
    for node in nodes {
        ids.push(node.redis.command(&["CLUSTER", "MYID"]).await.text().to_owned());
    }
    let (slot, port) = (slot.to_string(), nodes[to].redis.port.to_string());
    let set = |words: [&str; 2]| ["CLUSTER", "SETSLOT", &slot, words[0], words[1]].map(str::to_owned);
    let tell = async |node: usize, words: [String; 5]| {
        nodes[node].redis.command(&words.each_ref().map(String::as_str)).await;
    };
    tell(to, set(["IMPORTING", &ids[from]])).await;
    tell(from, set(["MIGRATING", &ids[to]])).await;
    loop {
        let keys = nodes[from].redis.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "10"]).await;
        let keys = keys.texts();
        if keys.is_empty() {
            break;
        }
        let words = [&["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"][..], &keys].concat();
        nodes[from].redis.command(&words).await;
    }
    for node in [to, from, 3 - from - to] {
        tell(node, set(["NODE", &ids[to]])).await;
    }
}
