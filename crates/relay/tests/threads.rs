//! A relay on several threads, seen by whoever gives it orders: one relay.

use std::time::Duration;

use grove_relay::{
    AttachError, Command, Event, Handle, Node, Room, Settings, Token, spawn_threads,
};

fn token(room: Room, peer: Node) -> Token {
    Token([room as u8 * 16 + peer as u8; 16])
}

fn enter(handle: &Handle, room: Room, peers: Node) {
    handle.command(Command::Enter { room, node: 65_535 });
    for peer in 1..=peers {
        let token = token(room, peer);
        handle.command(Command::Link { room, peer, token });
    }
}

fn rooms(handle: &Handle) -> Vec<usize> {
    handle.shards().map(|shard| shard.size.rooms).collect()
}

async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("this system says");
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names
        .filter(|name| name.starts_with("grove-relay-"))
        .count()
}

/// All in one test: they count the threads of the process.
#[tokio::test]
async fn rooms_are_spread_and_their_bounds_are_for_all_and_with_the_handle_every_thread_ends() {
    let settings = Settings {
        links: 3,
        ..Settings::default()
    };
    let (handle, mut events) = spawn_threads(settings, None, 3);
    assert_eq!(handle.shards().count(), 3);
    until(|| threads() == 3).await;
    for room in 1..=5 {
        enter(&handle, room, 2);
    }
    until(|| handle.stats().size.rooms == 5).await;
    assert_eq!(rooms(&handle), [2, 2, 1]);
    let mut open = Vec::new();
    for room in [1, 2, 3] {
        let attached = handle.attach(token(room, 1)).await;
        open.push(attached.expect("there is room"));
        let up = Event::Up { room, peer: 1 };
        assert_eq!(events.recv().await, Some(up));
    }
    for room in [1, 4] {
        let full = handle.attach(token(room, 2)).await;
        assert_eq!(full.err(), Some(AttachError::Full));
    }
    // What one gives back any other may have.
    handle.command(Command::Leave { room: 3 });
    until(|| handle.stats().size.links == 2).await;
    open.push(handle.attach(token(1, 2)).await.expect("one has gone"));
    let unknown = handle.attach(token(3, 1)).await;
    assert_eq!(unknown.err(), Some(AttachError::Unknown));
    enter(&handle, 3, 2);
    until(|| rooms(&handle).iter().sum::<usize>() == 5).await;

    let (other, mut others) = spawn_threads(settings, None, 1);
    drop(handle);
    // That of another relay.
    until(|| threads() == 1).await;
    while events.try_recv().is_ok() {}
    assert!(events.is_closed());
    for mut link in open {
        link.ended.wait().await;
    }
    drop(other);
    until(|| threads() == 0).await;
    assert!(others.recv().await.is_none());
}
