"""
Many images: a template, a cohort, label maps
=============================================

Eight patients, one slice each. Their mean, in shape and in appearance, is a space in which they can be compared. All are
aligned to it, with a page that shows whom to doubt. And a ninth patient gets a label map from the eight.
"""

# %%
# The images
# ----------
# A cohort is files in, files out; here they are written first. End-diastole of eight patients, and of a ninth.

import csv
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import augreg as ar
from augreg.atlas import Atlas, JointFusion, MultiAtlas, TemplateBank, template_rounds
from augreg.cohort import write_cohort
from augreg.report.figures import picture

hearts = ar.datasets.hearts(side=128)
images, labels = hearts.images[0:16:2], hearts.labels[0:16:2]
new, truth = hearts.images[16], hearts.labels[16]

# %%
# A template
# ----------
# Every round registers the template to all images, moves it into their middle, and takes the mean of what they show there.
# `shift` tells how far the middle still moved. No image is preferred: whichever is taken first, its own shape leaves.

registration = ar.LPRegistration.for_people()
for template in template_rounds(images, registration, rounds=2):
    print(f"round {template.round}: the middle moved by {template.shift:.2f} pixels")

_, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
mean = images[0].with_values(sum(ar.resample(image, images[0].grid).values.astype(float) for image in images) / len(images))
shown = {"one patient": images[0], "mean of the images as they are": mean, "template": template.image}
for ax, (title, image) in zip(axes, shown.items(), strict=True):
    picture(image)(ax)
    ax.set_title(title, fontsize=9)
    ax.set_axis_off()

# %%
# A cohort
# --------
# Each image gets a transform, a warped image and a line in a table. Where it is stopped it goes on; a bad image has a line
# that says why, and does not stop the others. `doubt` is how much a member differs from the rest in what speaks against a
# registration: the first patient was not found, and stands out.

work = Path(tempfile.mkdtemp())
paths = [work / f"patient{number}.nii.gz" for number in range(8)]
for path, image in zip(paths, images, strict=True):
    ar.write_image(image, path)
for _ in write_cohort(template.image, [str(path) for path in paths], registration, work / "aligned"):
    pass
with open(work / "aligned" / "cohort.csv", newline="", encoding="utf-8") as file:
    for line in csv.DictReader(file):
        print(line["name"], "doubt", line["doubt"][:4], "similarity", line["similarity"][:5], line["warnings"])

# %%
# In the shell, on as many processes or machines as there are, and with a page of all members, doubts first::
#
#     augreg template patient*.nii.gz -o template.nii.gz
#     augreg cohort template.nii.gz patient*.nii.gz -o aligned --workers 4 --report

# %%
# Label maps
# ----------
# The eight with their label maps are atlases. Each is registered to a few templates once, and kept in a folder; a new image
# then needs one registration per template that is chosen for it, and fusion weighs what the atlases say by how alike they
# look, place by place.

atlases = [Atlas(image, part) for image, part in zip(images, labels, strict=True)]
bank = TemplateBank.of(images[:3], atlases, registration, work / "bank")
for name, segment in {
    "one template, eight atlases": MultiAtlas(bank, count=1, fusion=JointFusion()),
    "three templates": MultiAtlas(bank, count=3, fusion=JointFusion()),
    "every atlas registered to the image": MultiAtlas(TemplateBank.direct(bank), count=None, fusion=JointFusion()),
}.items():
    found = segment(new)
    print(f"{name:36} Dice of the ventricle {ar.dice(truth, found.labels)[1]:.3f}")
