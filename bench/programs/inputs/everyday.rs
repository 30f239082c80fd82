// Everyday Rust: vectors that grow, maps, strings, aligned boxes, blocks freed by other threads.
use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc;
use std::thread;

#[repr(align(256))]
struct Aligned([u8; 300]);

fn main() {
    let count: u64 = std::env::args().nth(1).unwrap().parse().unwrap();
    let mut state = 7u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        state >> 33
    };
    let words: Vec<String> = (0..count).map(|_| format!("{:x}", next())).collect();
    let mut by_letter: BTreeMap<char, usize> = BTreeMap::new();
    for word in &words {
        *by_letter.entry(word.chars().next().unwrap()).or_insert(0) += 1;
    }
    println!("{:?}", by_letter);
    let (sender, receiver) = mpsc::channel::<(u64, Vec<u8>, Box<Aligned>)>();
    let makers: Vec<_> = (0..4u64)
        .map(|maker| {
            let sender = sender.clone();
            thread::spawn(move || {
                for i in 0..count / 4 {
                    let mut bytes = Vec::new();
                    for k in 0..(i * 31 + maker) % 700 {
                        bytes.push((k % 251) as u8);
                    }
                    sender.send((i, bytes, Box::new(Aligned([maker as u8; 300])))).unwrap();
                }
            })
        })
        .collect();
    drop(sender);
    let mut sums: HashMap<u64, u64> = HashMap::new();
    for (i, bytes, aligned) in receiver {
        assert_eq!(&*aligned as *const _ as usize % 256, 0);
        *sums.entry(i % 97).or_insert(0) += bytes.iter().map(|b| *b as u64).sum::<u64>() + aligned.0[299] as u64;
    }
    for maker in makers {
        maker.join().unwrap();
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort();
    println!("{}", sums.iter().fold(7u64, |sum, (a, b)| sum.wrapping_mul(31).wrapping_add(a * 7 + b)));
}
