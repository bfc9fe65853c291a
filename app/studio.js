// What the whole page needs: names for the examples, and the open tab in the address.

// Gradio shows the examples of an upload as buttons with a picture or a film and no name.
export const exampleName = (address) =>
  `Example ${address.split('/').pop().replace(/\.\w+$/, '').replaceAll('-', ' ')}`;

// The page's address with the open tab in it.
export const remembered = (address, tab) => {
  const url = new URL(address);
  url.searchParams.set('tab', tab);
  return url.href;
};

export function mount() {
  window.nbpRemembered = remembered;
  const name = () => {
    for (const button of document.querySelectorAll('.gallery-item:not([aria-label])')) {
      const shown = button.querySelector('[src]');
      if (shown) button.setAttribute('aria-label', exampleName(shown.src));
    }
  };
  name();
  new MutationObserver(name).observe(document.body, { childList: true, subtree: true });
}
