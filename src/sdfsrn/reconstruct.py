"""python -m sdfsrn.reconstruct [ckpt_path=...] [image=photo.png] [mask=...]: pictures to coloured meshes.

Only to be run: importing this module would hide the function `sdfsrn.reconstruct`.
"""

from sdfsrn.cli.command import command
from sdfsrn.cli.reconstructing import reconstruct_pictures

main = command("reconstruct")(reconstruct_pictures)

if __name__ == "__main__":
    main()
