//! A tree of very many files: the memory it takes is that of the cache, however many of them are asked for.

use std::fs;

use crate::support::client::Client;
use crate::support::gateway::Setup;

const FILES: usize = 12_000;
const FILE_BYTES: usize = 4_096;
const CACHE_BYTES: u64 = 4 << 20;
/// What else may grow meanwhile: the allocator's reserve, buffers, threads that read. A third of what the files come to.
const SLACK_BYTES: u64 = 16 << 20;

#[tokio::test]
async fn memory_is_bounded_by_the_cache_and_not_by_the_number_of_files() {
    let home = tempfile::tempdir().unwrap();
    for directory in 0..FILES / 100 {
        let directory = home.path().join(format!("root/{directory}"));
        fs::create_dir_all(&directory).unwrap();
        for file in 0..100 {
            fs::write(directory.join(format!("{file}.bin")), [u8::try_from(file).unwrap(); FILE_BYTES]).unwrap();
        }
    }
    let route = format!(
        "[[route]]\nname = \"files\"\npath = \"/files/\"\nauth = \"public\"\n\
         files = {{ root = \"root\", cache_total_bytes = {CACHE_BYTES} }}\n"
    );
    let gateway = Setup::endpoints(["http://127.0.0.1:9".to_owned()]).only(&route).start_in(home).await;
    let mut client = Client::plain(gateway.http).await;
    let mut before = 0;
    for number in 0..FILES {
        if number == FILES / 20 {
            before = gateway.resident_bytes(); // by now everything that is needed once is there
        }
        let (directory, file) = (number / 100, number % 100);
        let answer = client.get(&format!("/files/{directory}/{file}.bin")).await;
        assert_eq!(answer.status(), 200);
        assert!(answer.body == [u8::try_from(file).unwrap(); FILE_BYTES], "{directory}/{file}");
    }
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < CACHE_BYTES + SLACK_BYTES, "{} files took {grown} bytes", FILES - FILES / 20);
    assert!(
        CACHE_BYTES + SLACK_BYTES < (FILES * FILE_BYTES) as u64 / 2,
        "a bound that keeping everything would not break"
    );
}
