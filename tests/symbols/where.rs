// The same in Rust, in both of its manglings.
use std::io::{Read, Write};

struct Shelf<T>(T);

trait Fill {
    fn fill(&self) -> usize;
}

#[inline(always)]
fn here() -> usize {
    let place: usize;
    #[cfg(target_arch = "x86_64")]
    unsafe { std::arch::asm!("lea {}, [rip]", out(reg) place) };
    #[cfg(target_arch = "aarch64")]
    unsafe { std::arch::asm!("adr {}, .", out(reg) place) };
    place
}

impl<T: Copy> Fill for Shelf<T> {
    #[inline(never)]
    fn fill(&self) -> usize {
        std::hint::black_box(self.0);
        here()
    }
}

fn main() {
    println!("here {:#x}", Shelf(7u32).fill());
    std::io::stdout().flush().unwrap();
    let _ = std::io::stdin().read(&mut [0]);
}
