// The links of the Results tab go to its parts, and unfold those that are folded.

export function mount({ element }) {
  element.addEventListener('click', (event) => {
    const link = event.target.closest('a[href^="#"]');
    const part = link && document.getElementById(link.hash.slice(1));
    if (!part) return;
    event.preventDefault();
    const fold = part.querySelector('button.label-wrap');
    if (fold && !fold.classList.contains('open')) fold.click();
    part.scrollIntoView({ block: 'start' });
    const first = fold || part.querySelector('h2');
    if (first !== fold) first.tabIndex = -1;
    first.focus({ preventScroll: true });
  });
}
