//! Strangers who open as many connections as they can, and do nothing with them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use interlock::config::Auth;
use interlock::proto::{self, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;
use tonic::transport::Channel;

use super::credentials::scene::*;
use super::tls::{Files, HALF_A_HELLO, trusting};
use crate::harness::*;

const INFO: &str = "/interlock.v1.AdminService/GetServerInfo";
/// The first that an HTTP/2 client says: the preface and empty settings.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// Another address of this machine than that of the strangers.
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// Opens connections one after the other; gives those that the server answers.
async fn crowd(server: SocketAddr, connections: usize) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..connections {
        let mut stream = TcpStream::connect(server).await.expect("the kernel accepts");
        let is_open = stream.write_all(HELLO).await.is_ok() && matches!(stream.read(&mut [0]).await, Ok(1));
        held.extend(is_open.then_some(stream));
    }
    held
}

async fn connect_from_elsewhere(server: SocketAddr) -> Api {
    let endpoint = Channel::from_shared(format!("http://{server}")).expect("a URI").local_address(Some(ELSEWHERE));
    Api { channel: endpoint.connect().await.expect("a connection") }
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_of_one_address_leave_places_to_others() {
    let open = Server::start().await;
    let server = Server::over(open.database.clone(), |config| {
        config.auth = Some(Auth::Required);
        config.max_connections = 64;
    })
    .await;
    let scene = Scene { open, server };
    let key = scene.key(&[Role::Read], &["*"]).await;
    let strangers = crowd(scene.server.address, 200).await;
    // The connection of the scene counts towards their address too, unless it has carried a valid call.
    assert!(matches!(strangers.len(), 55 | 56), "all but an eighth, while they are alone: {}", strangers.len());
    let mut users = Vec::new();
    for _ in 0..7 {
        let user = connect_from_elsewhere(scene.server.address).await;
        assert_eq!(call(&user, INFO, &bearer(&key), &[]).await.code, Code::Ok, "{} are in", users.len());
        users.push(user);
    }
    // What strangers give back they do not get again while others are there.
    drop(strangers);
    eventually("the places", async || {
        let channel = Channel::from_shared(format!("http://{}", scene.server.address)).expect("a URI");
        channel.connect().await.ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_carried_a_valid_call_do_not_count_towards_the_share_of_their_address() {
    let open = Server::start().await;
    let server = Server::over(open.database.clone(), |config| {
        config.auth = Some(Auth::Required);
        config.max_connections = 64;
    })
    .await;
    let scene = Scene { open, server };
    let key = scene.key(&[Role::Read], &["*"]).await;
    let mut users = Vec::new();
    for i in 0..63 {
        // The last place is that of the scene's own connection.
        let user = Api::connect(scene.server.address).await;
        let outcome = call(&user, INFO, &bearer(&key), &[]).await;
        assert_eq!(outcome.code, Code::Ok, "{i} are in: {outcome:?}");
        users.push(user);
    }
    assert!(crowd(scene.server.address, 8).await.is_empty(), "all places are taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_of_one_address_leave_places_to_others() {
    let authority = Authority::new("one");
    let files = Files::of(&authority);
    let server = Server::over(Database::fresh().await, |config| files.name_in(config)).await;
    let mut crowd = Vec::new();
    for _ in 0..600 {
        let mut stream = TcpStream::connect(server.address).await.expect("the kernel accepts");
        let _may_be_closed = stream.write_all(HALF_A_HELLO).await;
        crowd.push(stream);
    }
    let closed = async |stream: &mut TcpStream| {
        let read = tokio::time::timeout(std::time::Duration::from_millis(1), stream.read(&mut [0])).await;
        read.is_ok_and(|read| !matches!(read, Ok(1)))
    };
    // Of 512 at once all but an eighth, each for ten seconds.
    eventually("the last is closed", async || closed(crowd.last_mut()?).await.then_some(())).await;
    assert!(!closed(&mut crowd[0]).await, "the first has its time");
    let endpoint = Channel::from_shared(format!("https://{}", server.address)).expect("a URI");
    let endpoint = endpoint.local_address(Some(ELSEWHERE)).tls_config(trusting(&authority.pem)).expect("settings");
    let user = Api { channel: endpoint.connect().await.expect("a handshake") };
    ok(user.admin().get_server_info(proto::GetServerInfoRequest {}).await);
    server.stop().await;
}
