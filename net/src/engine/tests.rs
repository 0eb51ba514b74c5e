//! What every engine must do, and the listening sockets.

use std::cell::Cell;
use std::io::{Read as _, Write as _};
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Instant;

use super::*;
use crate::hw;

const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// Makes a test of each function for each engine that works here.
macro_rules! on_each_engine {
    ($($name:ident)*) => {
        on_each_engine!(@ epoll, Epoll, $($name)*);
        #[cfg(all(target_os = "linux", feature = "glommio"))]
        on_each_engine!(@ glommio, Glommio, $($name)*);
        #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
        on_each_engine!(@ uring, Uring, $($name)*);
    };
    (@ $module:ident, $engine:ident, $($name:ident)*) => {
        mod $module {
            $(#[test]
            fn $name() {
                match super::EngineKind::$engine.why_not() {
                    None => super::$name::<super::$engine>(),
                    Some(why) => eprintln!("not tried: {why}"),
                }
            })*
        }
    };
}

on_each_engine! {
    each_executor_runs_its_body_and_its_local_tasks
    a_panic_is_counted_and_zero_executors_refused
    waits_end_in_their_order_and_long_ones_are_cut
    another_thread_wakes_a_task
    a_task_that_never_rests_lets_others_run
    tasks_end_with_the_executor
    a_panic_costs_its_task_only
    bytes_go_both_ways_past_full_buffers
    a_peer_that_has_finished_is_still_answered
    what_is_dropped_is_closed_at_once
    connections_come_and_go_and_none_stays_open
    nobody_listening_is_an_error
}

fn placement(executors: usize) -> Placement {
    Placement { name: "test".to_owned(), executors, cpus: Some(hw::available_cpus()) }
}

/// Waits for all executors; how many panicked.
fn join(executors: Executors) -> Result<(), usize> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(executors.join())
}

/// Runs a body on one executor.
fn run<E: Engine, F: Future<Output = ()> + 'static>(
    body: impl Fn(E) -> F + Clone + Send + 'static,
) {
    assert_eq!(join(E::start(&placement(1), body).unwrap()), Ok(()));
}

/// A server of one executor that gives each connection to `serve`, beside what a client on a
/// thread of its own does; it ends with the client.
fn beside<E: Engine, F: Future<Output = ()> + 'static>(
    serve: impl Fn(E, E::Stream) -> F + Clone + Send + 'static,
    client: impl Fn(SocketAddr) + Clone + Send + 'static,
) {
    run::<E, _>(move |engine| {
        let (serve, client) = (serve.clone(), client.clone());
        async move {
            let socket = bind(LOCAL, 1).unwrap().remove(0);
            let addr = socket.local_addr().unwrap();
            let mut listener = engine.listen(socket).unwrap();
            let (done, wait) = tokio::sync::oneshot::channel();
            let client = std::thread::spawn(move || {
                client(addr);
                let _ = done.send(());
            });
            let accept = async {
                loop {
                    let stream = listener.accept().await.unwrap();
                    engine.spawn_local(serve(engine.clone(), stream));
                }
            };
            tokio::select! {
                () = accept => {}
                _ = wait => {}
            }
            client.join().unwrap();
        }
    });
}

fn each_executor_runs_its_body_and_its_local_tasks<E: Engine>() {
    let (sender, receiver) = mpsc::channel();
    let executors = E::start(&placement(3), move |engine| {
        let sender = sender.clone();
        async move {
            let (done, wait) = tokio::sync::oneshot::channel();
            let index = engine.index();
            // Not Send: stays on its executor.
            let local = Rc::new(index);
            engine.spawn_local(async move {
                let _ = done.send(*local);
            });
            let seen = engine.timeout(LONG, wait).await;
            let _ = sender.send(seen.and_then(Result::ok));
            engine.yield_now().await;
            engine.sleep(Duration::from_millis(1)).await;
        }
    })
    .unwrap();
    assert_eq!((executors.len(), executors.is_empty()), (3, false));
    assert_eq!(executors.to_string(), format!("engine: {}, 3 executors", E::NAME));
    assert_eq!(join(executors), Ok(()));
    let mut seen: Vec<_> = receiver.iter().map(Option::unwrap).collect();
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2]);
}

fn a_panic_is_counted_and_zero_executors_refused<E: Engine>() {
    assert!(matches!(E::start(&placement(0), |_| async {}), Err(EngineError::Count(0))));
    let executors = E::start(&placement(2), |engine| async move {
        assert_eq!(engine.index(), 0, "the second one panics on purpose");
    });
    assert_eq!(join(executors.unwrap()), Err(1));
}

fn waits_end_in_their_order_and_long_ones_are_cut<E: Engine>() {
    run::<E, _>(|engine| async move {
        let begin = Instant::now();
        let never = std::future::pending::<()>();
        assert_eq!(engine.timeout(Duration::from_millis(5), never).await, None);
        assert!(begin.elapsed() >= Duration::from_millis(5));
        assert_eq!(engine.timeout(Duration::MAX, async { 7 }).await, Some(7));
        let (first, second) = (engine.sleep(Duration::from_millis(40)), engine.sleep(LONG));
        tokio::select! {
            biased;
            () = first => {}
            () = second => panic!("the long one was over first"),
        }
        // One that is given up disturbs no other.
        let order = Rc::new(std::cell::RefCell::new(Vec::new()));
        for ms in [30, 10, 20] {
            let (of_task, order) = (engine.clone(), Rc::clone(&order));
            engine.spawn_local(async move {
                of_task.timeout(LONG, async {}).await;
                of_task.sleep(Duration::from_millis(ms)).await;
                order.borrow_mut().push(ms);
            });
        }
        while order.borrow().len() < 3 {
            engine.sleep(Duration::from_millis(1)).await;
        }
        assert!(begin.elapsed() < LONG);
    });
}

fn another_thread_wakes_a_task<E: Engine>() {
    run::<E, _>(|_| async {
        let (question, questions) = mpsc::channel::<tokio::sync::oneshot::Sender<u32>>();
        let thread = std::thread::spawn(move || {
            for (number, answer) in (0..).zip(questions) {
                // Now and then the executor is already waiting.
                if number % 16 == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                let _ = answer.send(number);
            }
        });
        for number in 0..500 {
            let (sender, receiver) = tokio::sync::oneshot::channel();
            question.send(sender).unwrap();
            assert_eq!(receiver.await, Ok(number));
        }
        drop(question);
        thread.join().unwrap();
    });
}

fn a_task_that_never_rests_lets_others_run<E: Engine>() {
    beside::<E, _>(
        |engine, mut stream| async move {
            let is_over = Rc::new(Cell::new(false));
            let (busy, over) = (engine.clone(), Rc::clone(&is_over));
            engine.spawn_local(async move {
                while !over.get() {
                    busy.yield_now().await;
                }
            });
            // A socket and a timer, while that task is always ready.
            engine.sleep(Duration::from_millis(2)).await;
            let mut byte = [0; 1];
            assert_eq!(stream.read(&mut byte).await.unwrap(), 1);
            stream.write_all(&byte).await.unwrap();
            is_over.set(true);
        },
        |addr| {
            let mut stream = std::net::TcpStream::connect(addr).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            stream.write_all(&[9]).unwrap();
            let mut byte = [0; 1];
            stream.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [9]);
        },
    );
}

fn tasks_end_with_the_executor<E: Engine>() {
    struct Told(mpsc::Sender<&'static str>, &'static str);
    impl Drop for Told {
        fn drop(&mut self) {
            let _ = self.0.send(self.1);
        }
    }
    let (sender, receiver) = mpsc::channel();
    run::<E, _>(move |engine| {
        let sender = sender.clone();
        async move {
            for name in ["waits", "sleeps"] {
                let (engine_of_task, told) = (engine.clone(), Told(sender.clone(), name));
                engine.spawn_local(async move {
                    let _told = told;
                    if name == "sleeps" {
                        engine_of_task.sleep(LONG).await;
                    }
                    std::future::pending::<()>().await;
                });
            }
            engine.yield_now().await;
        }
    });
    let mut told: Vec<_> = receiver.iter().collect();
    told.sort_unstable();
    assert_eq!(told, ["sleeps", "waits"]);
}

fn a_panic_costs_its_task_only<E: Engine>() {
    run::<E, _>(|engine| async move {
        engine.spawn_local(async { panic!("on purpose") });
        let (done, wait) = tokio::sync::oneshot::channel();
        engine.spawn_local(async move {
            let _ = done.send(3);
        });
        assert_eq!(wait.await, Ok(3));
    });
}

/// More than the buffers of both sides hold.
const MUCH: usize = 32 << 20;

fn bytes_go_both_ways_past_full_buffers<E: Engine>() {
    beside::<E, _>(
        |_, mut stream| async move {
            // All of it is sent before any of the client's is read.
            let sent: Vec<u8> = (0..MUCH).map(|at| (at % 251) as u8).collect();
            stream.write_all_two(&sent[..100], &sent[100..]).await.unwrap();
            let (mut first, mut second, mut seen) = (vec![0; 1000], vec![0; 70_000], 0);
            loop {
                let len = stream.read_two(&mut first, &mut second).await.unwrap();
                if len == 0 {
                    break;
                }
                let bytes = first.iter().chain(&second).take(len);
                assert!(bytes.enumerate().all(|(at, byte)| *byte == ((seen + at) % 241) as u8));
                seen += len;
            }
            assert_eq!(seen, MUCH);
            stream.write_all(b"all").await.unwrap();
        },
        |addr| {
            let mut stream = std::net::TcpStream::connect(addr).unwrap();
            let mut writer = stream.try_clone().unwrap();
            let writes = std::thread::spawn(move || {
                let bytes: Vec<u8> = (0..MUCH).map(|at| (at % 241) as u8).collect();
                writer.write_all(&bytes).unwrap();
                writer.shutdown(std::net::Shutdown::Write).unwrap();
            });
            // The server's buffer is full by then.
            std::thread::sleep(Duration::from_millis(50));
            let mut got = vec![0; MUCH];
            stream.read_exact(&mut got).unwrap();
            assert!(got.iter().enumerate().all(|(at, byte)| *byte == (at % 251) as u8));
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).unwrap();
            assert_eq!(rest, b"all");
            writes.join().unwrap();
        },
    );
}

fn a_peer_that_has_finished_is_still_answered<E: Engine>() {
    beside::<E, _>(
        |engine, mut stream| async move {
            let mut bytes = [0; 64];
            let mut seen = 0;
            loop {
                match stream.read(&mut bytes).await.unwrap() {
                    0 => break,
                    len => seen += len,
                }
            }
            assert_eq!(seen, 4);
            // The end is read as often as one asks, and the other direction waits like any.
            assert_eq!(stream.read(&mut bytes).await.unwrap(), 0);
            stream.write_all(&vec![5; MUCH]).await.unwrap();
            stream.shutdown_write().await.unwrap();
            engine.sleep(Duration::from_millis(1)).await;
        },
        |addr| {
            let mut stream = std::net::TcpStream::connect(addr).unwrap();
            stream.write_all(b"last").unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            let mut got = Vec::new();
            stream.read_to_end(&mut got).unwrap();
            assert_eq!(got.len(), MUCH);
        },
    );
}

fn what_is_dropped_is_closed_at_once<E: Engine>() {
    // The engine does nothing else then: the client sees the end without more to happen there.
    beside::<E, _>(
        |engine, stream| async move {
            engine.sleep(Duration::from_millis(5)).await;
            drop(stream);
        },
        |addr| {
            for _ in 0..3 {
                let mut stream = std::net::TcpStream::connect(addr).unwrap();
                stream.set_read_timeout(Some(LONG)).unwrap();
                assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0);
            }
        },
    );
}

fn connections_come_and_go_and_none_stays_open<E: Engine>() {
    /// Connections at a time, and how often.
    const AT_A_TIME: usize = 200;
    const ROUNDS: usize = 20;
    // Some are dropped while bytes are on their way, some before a byte was read.
    beside::<E, _>(
        |_, mut stream| async move {
            let mut first = [0; 1];
            if stream.read(&mut first).await.unwrap_or(0) == 1 && first[0] != b'x' {
                let _ = stream.write_all(&first).await;
            }
        },
        |addr| {
            for round in 0..ROUNDS {
                let mut streams: Vec<_> =
                    (0..AT_A_TIME).map(|_| std::net::TcpStream::connect(addr).unwrap()).collect();
                for (at, stream) in streams.iter_mut().enumerate() {
                    stream.set_read_timeout(Some(LONG)).unwrap();
                    if (at + round) % 3 == 0 {
                        stream.write_all(b"xyz").unwrap();
                    } else {
                        stream.write_all(b"abc").unwrap();
                    }
                    // More, while the other side is closing.
                    let _ = stream.write_all(&[b'm'; 100]);
                }
                for mut stream in streams {
                    // Closed with bytes unread is a reset.
                    let mut got = Vec::new();
                    let _ = stream.read_to_end(&mut got);
                    assert!(got.is_empty() || got == b"a");
                }
            }
            let begin = Instant::now();
            while served(addr) > 0 && begin.elapsed() < LONG {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(served(addr), 0);
        },
    );
}

/// Connections to a listening socket whose serving side is not closed, as the kernel tells them.
fn served(addr: SocketAddr) -> usize {
    const ESTABLISHED: &str = "01";
    const CLOSE_WAIT: &str = "08";
    let SocketAddr::V4(of) = addr else { panic!("{addr}: a server of these tests has IPv4") };
    let local = format!("{:08X}:{:04X}", u32::from_ne_bytes(of.ip().octets()), of.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.len() > 3 && row[1] == local)
        .filter(|row| [ESTABLISHED, CLOSE_WAIT].contains(&row[3]))
        .count()
}

fn nobody_listening_is_an_error<E: Engine>() {
    run::<E, _>(|engine| async move {
        let port = ReservedPort::on(LOCAL.ip()).unwrap();
        let addr = port.addr();
        let error = engine.connect(addr).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        // And where somebody is, bytes go through.
        let socket = bind(addr, 1).unwrap().remove(0);
        let mut listener = engine.listen(socket).unwrap();
        let (near, far) = futures_util::join!(engine.connect(addr), listener.accept());
        let (mut near, mut far) = (near.unwrap(), far.unwrap());
        assert_eq!(near.peer_addr(), addr);
        near.write_all(b"hello").await.unwrap();
        let mut bytes = [0; 16];
        assert_eq!(far.read(&mut bytes).await.unwrap(), 5);
        drop(far);
        assert_eq!(near.read(&mut bytes).await.unwrap(), 0);
    });
}

#[test]
fn a_port_that_is_served_is_not_shared_by_accident() {
    let port = ReservedPort::on(LOCAL.ip()).unwrap();
    let addr = port.addr();
    let sockets = bind(addr, 3).unwrap();
    assert!(sockets.iter().all(|socket| socket.local_addr().unwrap() == addr));
    assert_eq!(bind(addr, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    drop(sockets);
    assert_eq!(bind(addr, 2).unwrap().len(), 2);
}

#[tokio::test]
async fn a_taken_port_is_waited_for() {
    let port = ReservedPort::on(LOCAL.ip()).unwrap();
    let addr = port.addr();
    let taken = bind(addr, 1).unwrap();
    let shutdown = Shutdown::new();
    let mut waiting = std::pin::pin!(bind_when_free(addr, 2, &shutdown));
    // It was tried and found taken before the other one lets go of it.
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    drop(taken);
    assert_eq!(waiting.await.unwrap().len(), 2);
    // A shutdown ends the wait.
    let _taken = bind(addr, 1).unwrap();
    shutdown.trigger();
    let error = bind_when_free(addr, 1, &shutdown).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}
