// Gradio makes an old list of models into a new one in place, and folds its cards shut: those that
// somebody opened are opened again.
export function mount({ element }) {
  const open = new Set();
  element.addEventListener('click', ({ target }) => {
    const summary = target.closest('details[data-model] > summary');
    if (!summary) return;
    const card = summary.parentElement; // which turns only after this
    if (card.open) open.delete(card.dataset.model); else open.add(card.dataset.model);
  });
  new MutationObserver(() => {
    for (const card of element.querySelectorAll('details[data-model]')) {
      if (!card.open && open.has(card.dataset.model)) card.open = true;
    }
  }).observe(element, { childList: true, subtree: true, attributeFilter: ['open'] });
}
